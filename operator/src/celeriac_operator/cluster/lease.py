"""Leader election by a Lease: of several replicas one works, the others keep their caches warm.

Promise: who does not hold the Lease sends no write. The leader renews every RENEW_SECONDS. It counts its term from the
moment before the last successful renewal was *sent*, on a clock that also runs while the process is stopped or the
machine is suspended, and gives up MARGIN_SECONDS before anybody else may take the Lease. Every write asks for the rest
of the term first, and is abandoned when that is over.

Limit: a process that is stopped between that question and the system call that sends the request sends it when it goes
on. Nothing but the API server could refuse that; it has every write bound to the uid of the object that was seen.

Take-over: after a clean exit, which empties the Lease, at the next look (POLL_SECONDS); after a crash when the Lease
has not changed for LEASE_SECONDS, on the follower's own clock, since the clocks of two machines need not agree.

The client's own leader election is not used: it goes by the wall clock, and keeps the Lease when it exits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from celeriac_operator.cluster import kinds
from celeriac_operator.cluster.transport import MERGE_PATCH, Transport
from celeriac_operator.exceptions import ApiError

logger = logging.getLogger(__name__)

LEASE_SECONDS = 10
"""How long a Lease holds that nobody renews. Written into it, and so known to followers of another release."""

MARGIN_SECONDS = 2.0
"""So much sooner the leader itself stops: for a write on its way to arrive."""

RENEW_SECONDS = 2.0
POLL_SECONDS = 1.0

ATTEMPT_SECONDS = 4.0
"""For one renewal: a hung connection leaves time for another attempt."""


def running_seconds() -> float:
    """A clock that nothing stops or sets: on Linux it counts a suspended machine's time too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a Lease says."""

    holder: str
    """Identity of the leader; empty: nobody leads."""
    seconds: int
    transitions: int
    version: str
    """ResourceVersion, for writes that must not overlook another one."""


def read(manifest: Mapping[str, Any]) -> Record:
    """A Lease as the API server returns it."""
    spec = manifest.get("spec") or {}
    return Record(
        holder=spec.get("holderIdentity") or "",
        seconds=spec.get("leaseDurationSeconds") or LEASE_SECONDS,
        transitions=spec.get("leaseTransitions") or 0,
        version=manifest["metadata"]["resourceVersion"],
    )


def is_free(record: Record, identity: str, unchanged_seconds: float) -> bool:
    """Whether this identity may take the Lease, which has not changed for so long as far as it has seen."""
    return not record.holder or record.holder == identity or unchanged_seconds >= record.seconds


class Election:
    """One candidate."""

    def __init__(
        self,
        transport: Transport,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = running_seconds,
    ) -> None:
        self._transport = transport
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._ends = float("-inf")
        self._held: Record | None = None
        self._watched: Record | None = None
        self._watched_since = 0.0

    def seconds_left(self) -> float:
        """Rest of the term in which this process may write; zero or less: it may not."""
        return self._ends - self._clock()

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Lead whenever the Lease can be had, until cancelled; then give it back.

        `lead` is cancelled when the Lease is lost, and called again when it is won again.
        """
        while True:
            await self._win()
            logger.info("%s leads", self._identity)
            work = asyncio.ensure_future(lead())
            try:
                await self._hold(work)
            finally:
                is_held = self.seconds_left() > 0
                self._ends = float("-inf")
                work.cancel()
                await asyncio.wait([work])
                if is_held:  # of a Lease that is lost nothing is written, not even this
                    await self._release()
            logger.warning("%s leads no longer: the Lease was lost", self._identity)

    async def _win(self) -> None:
        while True:
            with contextlib.suppress(ApiError):  # counted by the transport; there is nothing to do but try again
                if await self.attempt():
                    return
            await asyncio.sleep(POLL_SECONDS)

    async def attempt(self) -> bool:
        """Look once, and take the Lease if it is free; returns whether it is held then.

        Raises:
            ApiError: the API server did not answer, or refused.
        """
        record = await self._look()
        if record is None:
            sent = self._clock()
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": self._spec(transitions=0, is_new=True),
            }
            return self._take(await self._write("POST", body), sent)
        if record != self._watched:
            self._watched, self._watched_since = record, self._clock()
        if not is_free(record, self._identity, self._clock() - self._watched_since):
            return False
        sent = self._clock()
        spec = self._spec(transitions=record.transitions + (record.holder != self._identity), is_new=True)
        return self._take(await self._write("PATCH", _patch(record, spec)), sent)

    async def _hold(self, work: asyncio.Future[None]) -> None:
        """Renew until the Lease is lost or the work fails."""
        pause = RENEW_SECONDS
        while True:
            done, _ = await asyncio.wait([work], timeout=pause)
            if done:
                work.result()
                return
            if self.seconds_left() <= 0:
                return
            try:
                await self.renew()
                pause = RENEW_SECONDS
            except ApiError as error:
                if error.status in (404, 409):
                    self._ends = float("-inf")
                    return
                logger.warning("the Lease could not be renewed: %s", error)
                pause = POLL_SECONDS

    async def renew(self) -> None:
        """Begin a new term.

        Raises:
            ApiError: 409 or 404 when the Lease is somebody else's or gone; anything else may pass.
        """
        assert self._held is not None, "only a leader renews"  # noqa: S101 -- for the type checker
        sent = self._clock()
        spec = self._spec(transitions=self._held.transitions, is_new=False)
        self._take(await self._write("PATCH", _patch(self._held, spec)), sent)

    async def _release(self) -> None:
        """Empty the Lease, so that nobody needs to wait for its end. Somebody else's stays as it is."""
        assert self._held is not None, "only a leader gives it back"  # noqa: S101 -- for the type checker
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            await self._write("PATCH", _patch(self._held, spec))
        except ApiError as error:
            logger.debug("the Lease was not given back: %s", error)

    async def _look(self) -> Record | None:
        try:
            return read(await self._request("GET", kinds.LEASE.path(self._namespace, self._name)))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _write(self, verb: str, body: Mapping[str, Any]) -> Record:
        name = "" if verb == "POST" else self._name
        return read(await self._request(verb, kinds.LEASE.path(self._namespace, name), body))

    async def _request(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        content_type = MERGE_PATCH if verb == "PATCH" else "application/json"
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                return await self._transport.request(
                    verb, path, plural=kinds.LEASE.plural, body=body, content_type=content_type
                )
        except TimeoutError as error:
            raise ApiError(0, "NoAnswer", f"no answer within {ATTEMPT_SECONDS:.0f} s") from error

    def _take(self, record: Record, sent: float) -> bool:
        self._held = record
        self._ends = sent + LEASE_SECONDS - MARGIN_SECONDS
        return True

    def _spec(self, *, transitions: int, is_new: bool) -> dict[str, Any]:
        now = _now()
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "leaseTransitions": transitions,
            "renewTime": now,
        }
        return {**spec, "acquireTime": now} if is_new else spec


def _patch(record: Record, spec: Mapping[str, Any]) -> dict[str, Any]:
    # With the version: whoever has written in between wins, and we are told (409).
    return {"metadata": {"resourceVersion": record.version}, "spec": spec}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
