"""Locks that are broken on purpose: what looks for broken promises must find these."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

from redis.exceptions import LockNotOwnedError

from celeriac.locks import scripts
from celeriac.locks.lock import Lock
from celeriac.store import keys


class ReleasesAnybodys(Lock):
    """Lets go without looking whose lock it is, as many home-made ones do."""

    def release(self) -> None:
        owner = self.redis.get(self.name)
        if owner is not None:
            text = owner if isinstance(owner, str) else owner.decode()
            names = [self.name, keys.fence(self.name), keys.waiters(self.name)]
            scripts.RELEASE.run(self.redis, names, [text, keys.inbox_prefix(self.name)])
        self.local.token = self.local.fence = None


class CountsForItself(Lock):
    """Numbers its acquisitions in the client's memory instead of in Redis."""

    counter = itertools.count(1)

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        taken = super().acquire(*args, **kwargs)
        if taken:
            self.local.fence = next(self.counter)
        return taken


class TakesWhatIsTaken(Lock):
    """Takes a lock that somebody holds, one time in ten."""

    counter = itertools.count(1)

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        if next(self.counter) % 10 == 0:
            self.redis.delete(self.name)
        return super().acquire(*args, **kwargs)

    def release(self) -> None:
        with contextlib.suppress(LockNotOwnedError):
            super().release()


KINDS: dict[str, type[Lock]] = {
    "celeriac": Lock,
    "releases anybody's": ReleasesAnybodys,
    "counts for itself": CountsForItself,
    "takes what is taken": TakesWhatIsTaken,
}
