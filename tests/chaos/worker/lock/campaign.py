"""Clients that fight for one lock while they and Redis are killed and paused; their history is then checked."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.worker import journal
from tests.chaos.worker.judgement import Verdict
from tests.chaos.worker.lock import history
from tests.chaos.worker.lock.client import TIMEOUT_SECONDS
from tests.chaos.worker.lock.fenced_store import FencedStore
from tests.chaos.worker.lock.history import Acquisition
from tests.integration.worker.processes import RedisServer

CLIENTS = 6
HONEST = "celeriac"
ROOT = Path(__file__).parents[4]
LONGEST_WAIT_SECONDS = 45.0
"""By then every client that lives has had the lock once more: a waiter looks at it every 30 s by itself."""


class LockCampaign:
    """One campaign; `clean_up` ends whatever runs."""

    def __init__(self, directory: Path, *, seed: int, kind: str, late: float) -> None:
        self.directory = directory
        self.kind = kind
        self.late = late
        self.chance = random.Random(seed)  # noqa: S311 - a plan that can be repeated
        (directory / "redis").mkdir()
        self.redis = RedisServer(directory / "redis")
        self.reader = journal.Reader(directory / "journal")
        self.clients: dict[str, subprocess.Popen[bytes]] = {}
        self.counts = dict.fromkeys(
            ("clients killed", "clients paused", "Redis killed", "Redis restarted", "Redis paused"), 0
        )
        self._started = 0

    def run(self, seconds: float, progress: Callable[[str], object]) -> Verdict:
        """Run with faults for `seconds`, then without, then check. A lock that is known to be broken ends it early."""
        self.redis.start()
        FencedStore(self.directory / "store").close()
        for _ in range(CLIENTS):
            self._start_client()
        self._until_all_have_had_it()
        told = time.monotonic()
        until = told + seconds
        while time.monotonic() < until:
            time.sleep(self.chance.uniform(0.3, 2))
            self._fault()
            if (now := time.monotonic()) - told > 5:
                told = now
                progress(f"lock: {len(self.reader.read())} acquisitions, {sum(self.counts.values())} faults")
            if self.kind != HONEST and (verdict := self._verdict([])).violations:
                return verdict
        violations = self._until_all_have_had_it()
        self.clean_up_clients()
        return self._verdict(violations)

    def _start_client(self) -> None:
        self._started += 1
        name = f"c{self._started}"
        options = {
            "url": self.redis.url,
            "kind": self.kind,
            "late": self.late,
            "directory": self.directory,
            "client": name,
            "seed": self.chance.randrange(10**9),
        }
        command = [sys.executable, "-m", "tests.chaos.worker.lock.client"]
        for option, value in options.items():
            command += [f"--{option}", str(value)]
        with (self.directory / "clients.log").open("ab") as log:
            self.clients[name] = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def _fault(self) -> None:
        what = self.chance.choices(list(self.counts), (4, 3, 1, 1, 1))[0]
        self.counts[what] += 1
        if what == "clients killed":
            name = self.chance.choice(sorted(self.clients))
            victim = self.clients.pop(name)
            victim.kill()
            victim.wait()
            self._start_client()
        elif what == "clients paused":
            victim = self.clients[self.chance.choice(sorted(self.clients))]
            victim.send_signal(signal.SIGSTOP)
            time.sleep(TIMEOUT_SECONDS * self.chance.uniform(0.5, 1.5))
            victim.send_signal(signal.SIGCONT)
        elif what == "Redis paused":
            self.redis.pause()
            time.sleep(self.chance.uniform(0.1, 1.5))
            self.redis.resume()
        else:
            (self.redis.kill if what == "Redis killed" else self.redis.stop)()
            time.sleep(self.chance.uniform(0, 0.5))
            self.redis.start()

    def _until_all_have_had_it(self) -> list[str]:
        """Wait until every client has had the lock again; a sentence for each that has not."""
        since = time.monotonic()
        missing = set(self.clients)
        while missing and time.monotonic() < since + LONGEST_WAIT_SECONDS:
            time.sleep(0.1)
            missing -= {it["client"] for it in self.reader.read() if it["asked"] > since or it["had"] > since}
            dead = [name for name, client in self.clients.items() if client.poll() is not None]
            if dead:
                return [f"{name} ended by itself, see clients.log" for name in dead]
        return [f"{name} did not get the lock within {LONGEST_WAIT_SECONDS:g} s" for name in sorted(missing)]

    def _verdict(self, violations: list[str]) -> Verdict:
        acquisitions = [
            Acquisition(
                client=it["client"], fence=it["fence"], asked=it["asked"], had=it["had"], certain_until=it["until"]
            )
            for it in self.reader.read()
        ]
        with contextlib.closing(FencedStore(self.directory / "store")) as store:
            writes = store.writes()
        found = [*violations, *history.check(acquisitions, writes)]
        counts = {
            "acquisitions": len(acquisitions),
            "writes accepted": sum(it.accepted for it in writes),
            "late writes refused": sum(not it.accepted for it in writes),
            **self.counts,
        }
        return Verdict(counts=counts, violations=found)

    def clean_up_clients(self) -> None:
        for client in self.clients.values():
            client.kill()
            client.wait()
        self.clients.clear()

    def clean_up(self) -> None:
        """End every process that the campaign has started."""
        self.clean_up_clients()
        self.redis.kill()


def run(
    directory: Path,
    *,
    seed: int,
    seconds: float,
    progress: Callable[[str], object],
    kind: str = HONEST,
    late: float = 0.01,
) -> Verdict:
    """A campaign from beginning to end; whatever happens, nothing that it started is left.

    Args:
        directory: an empty one, for the journal, the store and Redis.
        seed: of the choices of faults and clients.
        seconds: how long faults happen, or until a lock that is broken on purpose is found.
        progress: told now and then how far it is.
        kind: of lock; all except the first are broken on purpose.
        late: share of owners that go on beyond their time.
    """
    campaign = LockCampaign(directory, seed=seed, kind=kind, late=late)
    try:
        return campaign.run(seconds, progress)
    finally:
        campaign.clean_up()
