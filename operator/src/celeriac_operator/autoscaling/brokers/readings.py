"""(pure) What is read from a broker, and which errors can occur?

BrokerError
├── Unreachable            no response, or an unusable one; retrying may help
│   └── Misbehaving        it sends what no such broker sends; retrying soon would only cost time
└── AuthenticationFailed   the broker refuses the credentials; new ones are needed
UnusableURL (ValueError)   no broker can be read with this URL; another URL is needed

The message of each is a sentence for people. It contains no credentials, and nothing that the server has sent: everyone
who chooses a broker's address must not read another service's answers in the status of a pool.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from celeriac_operator.autoscaling.policy import Figures


class BrokerError(Exception):
    """Reading a broker failed."""


class Unreachable(BrokerError):  # noqa: N818 - reads as what the broker is
    """The broker did not respond in time, or its response cannot be used."""


class Misbehaving(Unreachable):
    """The server's answers are not those of a broker, or are larger than they can be."""


class AuthenticationFailed(BrokerError):  # noqa: N818 - reads as what happened
    """The broker refuses the user or the password."""


class UnusableURL(ValueError):  # noqa: N818 - reads as what is wrong
    """No broker can be read with this URL."""


@dataclass(frozen=True)
class Watched:
    """A pool whose queues are read."""

    pool: str
    """`namespace/name`."""
    queues: tuple[str, ...]
    """Queue names as the application uses them, without a prefix; each once."""
    is_scaled: bool = True
    """Whether the pool has autoscaling. The queues of others are only reported, and read less often."""


@dataclass(frozen=True)
class Reading:
    """What was read for one pool."""

    figures: Figures
    """Figures for the policy; `read_at` is the `now` that was passed to `read`."""
    backlog: Mapping[str, int]
    """Ready messages by queue, all priorities together."""


class Broker(Protocol):
    """One broker. Only one task at a time calls `read`; another may wait for `arrival` meanwhile."""

    async def read(
        self, pools: Sequence[Watched], *, now: float, only: Collection[str] | None = None
    ) -> dict[str, Reading]:
        """Read the figures of all pools in one pipelined round trip.

        A pool whose queues the broker refuses to show (its ACL forbids a key, or a key has another type) is missing
        from the result, and this is logged once.

        Args:
            now: the caller's clock in seconds, for `Figures.read_at`.
            only: names of the pools to read, all part of the previous reading; other pools may be missing.

        Raises:
            Unreachable, AuthenticationFailed: there are no figures of any pool. The next call reconnects.
        """
        ...

    async def arrival(self) -> frozenset[str]:
        """Wait until a queue that the last reading found empty gets a message; returns the pools concerned.

        Never raises: without a connection nothing arrives, and `read` reports why. If the broker cannot announce
        arrivals, this waits for ever, which is logged once.
        """
        ...

    async def close(self) -> None:
        """Close all connections. Safe to call twice."""
        ...
