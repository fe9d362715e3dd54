"""Where is the master that sentinels watch?"""

from __future__ import annotations

import contextlib
from typing import Any, Final, Protocol

from redis.exceptions import RedisError

from celeriac_operator.autoscaling.brokers import faults, urls
from celeriac_operator.autoscaling.brokers.access import Access
from celeriac_operator.autoscaling.brokers.readings import BrokerError, Unreachable
from celeriac_operator.printable import printable

SHOWN_MASTERS: Final = 5


class Connect(Protocol):
    """Builds a connection."""

    def __call__(self, server: urls.RedisServer, /, *, protocol: int) -> Any: ...


async def find_master(address: urls.Sentinels, connect: Connect, access: Access) -> urls.RedisServer:
    """Ask the sentinels one after the other where the master is.

    Raises:
        Unreachable: no sentinel knows.
        UnusableURL: the operator may not connect to the master.
    """
    reasons = []
    first = address.sentinels[0]
    for sentinel in address.sentinels:
        plain = urls.RedisServer(host=sentinel.host, port=sentinel.port)
        connection = connect(plain, protocol=2)
        try:
            await connection.connect()
            await connection.send_command("SENTINEL", "MASTERS")
            found = _choose(await connection.read_response(), address.master_name)
        except (RedisError, OSError, ValueError, TypeError, AttributeError, KeyError, BrokerError) as error:
            reasons.append(f"{sentinel.shown}: {faults.describe(error) or 'it does not answer as a sentinel does'}")
            continue
        finally:
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
        if isinstance(found, str):
            reasons.append(f"{sentinel.shown}: {found}")
            continue
        host, port = found
        access.check_host(host)
        return urls.RedisServer(
            host=host,
            port=port,
            database=first.database,
            username=first.username,
            password=first.password,
            tls=first.tls,
        )
    raise Unreachable(f"no sentinel knows a master ({'; '.join(reasons)})")


def _choose(reply: Any, name: str | None) -> tuple[str, int] | str:
    """Address of the master; or why this sentinel does not give it.

    Raises:
        ValueError, TypeError, AttributeError, KeyError: the reply is not a sentinel's.
    """
    masters = [dict(zip(fields[::2], fields[1::2], strict=True)) for fields in reply]
    names = sorted(printable(master[b"name"].decode(), limit=60) for master in masters)
    shown = ", ".join(names[:SHOWN_MASTERS]) + (", …" if len(names) > SHOWN_MASTERS else "")
    wanted = [master for master in masters if name in {None, master[b"name"].decode()}]
    if len(wanted) > 1:
        return f"watches {shown}: set ?master_name= in the broker URL"
    if not wanted:
        return f"watches {shown or 'no master'}" + (f", and not {printable(name, limit=60)}" if name else "")
    flags = wanted[0][b"flags"].decode().split(",")
    if {"s_down", "o_down"}.intersection(flags):
        return "the master is down"
    host, port = wanted[0][b"ip"].decode(), int(wanted[0][b"port"])
    if not urls.HOST.fullmatch(host):
        raise ValueError("not a host")
    return host, port
