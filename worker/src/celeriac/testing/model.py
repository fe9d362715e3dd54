"""The part of Redis that policies need, in one process, with a clock that a test moves.

Each script has a model here: a method that does the same in Python. The models follow the scripts line by line. The
tests run both with the same calls and compare replies and keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from celeriac.locks import scripts as lock_scripts
from celeriac.policies import scripts as policy_scripts
from celeriac.store.keys import BURST_SECONDS, COVERED_SECONDS
from celeriac.testing.clock import Clock

Arguments = list[str]


class ModelRedis:
    """A client that acts as a Redis server itself."""

    connection_pool = None
    """As clients of one server have one, and those of a Cluster do not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._values: dict[str, Any] = {}
        self._ends: dict[str, int] = {}

    # --- commands

    def get(self, name: str) -> Any:
        """As Redis'."""
        return self._read(name)

    def hget(self, name: str, field: str) -> Any:
        """As Redis'."""
        return (self._read(name) or {}).get(field)

    def hgetall(self, name: str) -> dict[str, str]:
        """As Redis'."""
        return dict(self._read(name) or {})

    def smembers(self, name: str) -> set[str]:
        """As Redis'."""
        return set(self._read(name) or ())

    def lrange(self, name: str, first: int, last: int) -> list[str]:
        """As Redis', for the whole list, which is all that is asked for."""
        return list(self._read(name) or ())[first : last + 1 or None]

    def lpush(self, name: str, value: str) -> None:
        """As Redis'."""
        self._values.setdefault(name, []).insert(0, value)

    def rpush(self, name: str, value: str) -> None:
        """As Redis'."""
        self._values.setdefault(name, []).append(value)

    def rpop(self, name: str) -> Any:
        """As Redis'."""
        values = self._read(name)
        return values.pop() if values else None

    def pttl(self, name: str) -> int:
        """As Redis'."""
        if self._read(name) is None:
            return -2
        return self._ends[name] - self.milliseconds if name in self._ends else -1

    def set(self, name: str, value: str, *, ex: int) -> None:
        """As Redis'."""
        self._set(name, value, ex * 1000)

    def delete(self, *names: str) -> None:
        """As Redis'."""
        for name in names:
            self._values.pop(name, None)
            self._ends.pop(name, None)

    def execute_command(self, command: str, sha: str, count: int, *rest: Any) -> Any:
        """Run the model of a script."""
        if command != "EVALSHA":
            raise NotImplementedError(command)
        return _MODELS[sha](self, list(rest[:count]), [str(it) for it in rest[count:]])

    @staticmethod
    def scripts() -> frozenset[str]:
        """The digests of the scripts that have a model."""
        return frozenset(_MODELS)

    @property
    def milliseconds(self) -> int:
        """The server's time."""
        return round(self._clock.now * 1000)

    def _read(self, name: str) -> Any:
        if self._ends.get(name, self.milliseconds + 1) <= self.milliseconds:
            self.delete(name)
        return self._values.get(name)

    def _set(self, name: str, value: Any, milliseconds: str | int) -> None:
        self._values[name] = value
        self._ends[name] = self.milliseconds + int(milliseconds)

    def _hset(self, name: str, **fields: str) -> None:
        self._values.setdefault(name, {}).update(fields)

    # --- scripts

    def forget(self, keys: list[str], args: Arguments) -> int:
        if self.get(keys[0]) != args[0]:
            return 0
        self.delete(keys[0])
        return 1

    def renew(self, keys: list[str], args: Arguments) -> int:
        if self.get(keys[0]) != args[0]:
            return 0
        self._ends[keys[0]] = max(self._ends[keys[0]], self.milliseconds + int(args[1]))
        return 1

    def hold(self, keys: list[str], args: Arguments) -> int:
        if self.get(keys[0]) not in {None, *args[2:]}:
            return 0
        self._set(keys[0], args[0], args[1])
        return 1

    def is_revoked(self, prefix: str, task_id: str) -> bool:
        return bool(prefix) and self.get(prefix + task_id) is not None

    def look(self, keys: list[str], args: Arguments) -> str | None:
        value = self.get(keys[0])
        if value is None or (value[:2] == "q:" and self.is_revoked(args[1], value[2:])):
            return None
        if args[0] != "0":
            self._ends[keys[0]] = self.milliseconds + int(args[0])
        return str(value)

    def claim(self, keys: list[str], args: Arguments) -> str:
        value = self.get(keys[0])
        if value is not None and not (value[:2] == "q:" and self.is_revoked(args[3], value[2:])):
            return str(value)
        self._set(keys[0], args[0], args[1])
        if args[2]:
            self._set(keys[1], {*self.smembers(keys[1]), args[2]}, COVERED_SECONDS * 1000)
        for name, message in zip(keys[2:], args[4:], strict=True):
            self.lpush(name, message)
        return args[0]

    def extend(self, keys: list[str], args: Arguments) -> int:
        if self.get(keys[0]) != args[0] or self.pttl(keys[0]) < 0:
            return 0
        start = self._ends[keys[0]] if args[2] == "add" else self.milliseconds
        self._ends[keys[0]] = start + int(args[1])
        return 1

    def unique_start(self, keys: list[str], args: Arguments) -> int:
        claim, covered, queued = keys
        if self._discard(covered, args[0]):
            return -1
        phase, _, owner = (self.get(claim) or "").partition(":")
        others: set[str] = set()
        if owner != args[0]:
            if self.is_revoked(args[2], args[0]):
                self._discard(queued, args[0])
                return -2
            if phase == "r":
                return max(self.pttl(claim), 1)
            others |= {owner} - {""}
        self._discard(queued, args[0])
        others |= self.smembers(covered) | self.smembers(queued)
        self.delete(queued)
        if others:
            self._set(covered, others, COVERED_SECONDS * 1000)
        if args[1] == "0":
            self.delete(claim)
        else:
            self._set(claim, f"r:{args[0]}", args[1])
        return 0

    def unique_abandon(self, keys: list[str], args: Arguments) -> int:
        self._discard(keys[1], args[0])
        self._discard(keys[2], args[0])
        if self.get(keys[0]) not in {f"q:{args[0]}", f"r:{args[0]}"}:
            return 0
        self.delete(keys[0])
        return 1

    def _discard(self, name: str, member: str) -> bool:
        """As SREM."""
        if member not in self.smembers(name):
            return False
        self._values[name].discard(member)
        if not self._values[name]:
            self.delete(name)
        return True

    def debounce(self, keys: list[str], args: Arguments) -> int | str:
        burst, now = self.hgetall(keys[0]), self.milliseconds
        own, quiet, longest, queue, message, token, waker, late, new, revoked = args
        if burst and self.is_revoked(revoked, burst["id"]):
            self.lpush(burst["list"], burst["message"])
            self.delete(keys[0])
            burst = {}
        expected = burst.get("id", new)
        if expected != own:
            return f"burst {expected}"
        first = int(burst.get("first", now))
        due = now + int(quiet)
        if longest != "0":
            due = min(due, first + int(longest))
        if int(burst.get("look", 0)) < now:
            if not waker:
                return "waker"
            self.lpush(keys[1], waker)
            burst |= {"waker": token, "look": str(due + int(late))}
        burst |= {"id": own, "first": str(first), "due": str(due), "list": queue, "message": message}
        self._set(keys[0], burst, due - now + BURST_SECONDS * 1000)
        return 1

    def fire(self, keys: list[str], args: Arguments) -> int:
        burst = self.hgetall(keys[0])
        if burst.get("waker") != args[0]:
            return -1
        left = int(burst["due"]) - self.milliseconds
        if left > 0:
            self._hset(keys[0], look=str(int(burst["due"]) + int(args[1])))
            return left
        self.rpush(burst["list"], burst["message"])
        self.delete(keys[0])
        return 0

    def coalesce(self, keys: list[str], args: Arguments) -> int | str:
        waiting, now = self.hgetall(keys[0]), self.milliseconds
        own, mark, message, patience, guard_mark, guard, guard_patience, new, life, revoked = args
        ends = int(waiting.get("ends", 0))
        if waiting and (self.is_revoked(revoked, waiting["id"]) or 0 < ends <= now):
            self.delete(keys[0])
            waiting = {}
        expected = waiting.get("id", new)
        if expected != own:
            return f"call {expected}"
        if int(waiting.get("look", 0)) < now:
            ticket, pushed, milliseconds = mark, message, patience
            if self.get(keys[1]) is not None:
                if not guard:
                    return "guard"
                ticket, pushed, milliseconds = guard_mark, guard, guard_patience
            self.lpush(keys[2], pushed)
            waiting |= {"ticket": ticket, "look": str(now + int(milliseconds))}
        waiting |= {"id": own, "mark": mark, "list": keys[2], "message": message, "patience": patience}
        waiting["ends"] = "0" if life == "0" else str(now + int(life))
        self._set(keys[0], waiting, int(patience) + BURST_SECONDS * 1000)
        return 1

    def coalesce_start(self, keys: list[str], args: Arguments) -> int | str:
        waiting, now = self.hgetall(keys[0]), self.milliseconds
        is_ticket, is_guard = waiting.get("ticket") == args[1], args[1].startswith("guard:")
        if is_guard and not is_ticket:
            return -1
        if self.get(keys[1]) not in {None, args[0]}:
            left = max(self.pttl(keys[1]), 1)
            if not is_ticket:
                return f"wait {left}"
            look = str(now + left + int(waiting["patience"]))
            self._hset(keys[0], look=look, ticket="guard:" + args[1].partition(":")[2])
            return f"guard {left}"
        if is_ticket and waiting["mark"] != args[1]:
            self.rpush(waiting["list"], waiting["message"])
            self._hset(keys[0], ticket=waiting["mark"], look=str(now + int(waiting["patience"])))
            return -2
        if is_ticket:
            self.delete(keys[0])
        self._set(keys[1], args[0], args[2])
        return 0

    def coalesce_end(self, keys: list[str], args: Arguments) -> int:
        if self.get(keys[1]) != args[0]:
            return 0
        self.delete(keys[1])
        waiting = self.hgetall(keys[0])
        if not waiting.get("ticket", "").startswith("guard:"):
            return 0
        self.lpush(waiting["list"], waiting["message"])
        look = str(self.milliseconds + int(waiting["patience"]))
        self._hset(keys[0], ticket=waiting["mark"], look=look)
        return 1

    def coalesce_abandon(self, keys: list[str], args: Arguments) -> int:
        run, mark, task_id, is_expired = args
        ended, waiting = 0, self.hgetall(keys[0])
        if self.get(keys[1]) == run:
            ended = self.coalesce_end(keys, [run]) or 1
            waiting = self.hgetall(keys[0])
        if waiting.get("id") != task_id:
            return ended
        if is_expired and waiting["mark"] != mark:
            if waiting["ticket"] != mark:
                return ended
            self.rpush(waiting["list"], waiting["message"])
            look = str(self.milliseconds + int(waiting["patience"]))
            self._hset(keys[0], ticket=waiting["mark"], look=look)
            return 1
        self.delete(keys[0])
        return 1


_MODELS: Final[dict[str, Callable[[ModelRedis, list[str], Arguments], Any]]] = {
    lock_scripts.EXTEND.sha: ModelRedis.extend,
    policy_scripts.FORGET.sha: ModelRedis.forget,
    policy_scripts.RENEW.sha: ModelRedis.renew,
    policy_scripts.HOLD.sha: ModelRedis.hold,
    policy_scripts.LOOK.sha: ModelRedis.look,
    policy_scripts.CLAIM.sha: ModelRedis.claim,
    policy_scripts.UNIQUE_START.sha: ModelRedis.unique_start,
    policy_scripts.UNIQUE_ABANDON.sha: ModelRedis.unique_abandon,
    policy_scripts.DEBOUNCE.sha: ModelRedis.debounce,
    policy_scripts.FIRE.sha: ModelRedis.fire,
    policy_scripts.COALESCE.sha: ModelRedis.coalesce,
    policy_scripts.COALESCE_START.sha: ModelRedis.coalesce_start,
    policy_scripts.COALESCE_END.sha: ModelRedis.coalesce_end,
    policy_scripts.COALESCE_ABANDON.sha: ModelRedis.coalesce_abandon,
}
