"""Which replica is the leader? One replica holds a Lease and reconciles; the others keep their caches up to date.

Promise: a replica that does not hold the Lease sends no write. The leader renews the Lease every RENEW_SECONDS. Its
term counts from the moment before the last successful renewal was *sent*, on a clock that also runs while the process
is stopped or the machine is suspended, and ends MARGIN_SECONDS before any other replica may take the Lease. Every write
checks the remaining term first, and is cancelled when the term ends.

Limit: a process that is stopped between this check and the system call that sends the request sends it when it
continues. Only the API server could refuse that request; every write is bound to the uid of the observed object.

Take-over: after a clean exit, which empties the Lease, at the next poll (POLL_SECONDS). After a crash, once the Lease
has not changed for LEASE_SECONDS on the follower's own clock, since the clocks of two machines may differ.

The Kubernetes client's own leader election is not used: it relies on the wall clock and keeps the Lease at exit.
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
"""Seconds after which an unrenewed Lease is free. Written into the Lease, so followers of another release know it."""

MARGIN_SECONDS = 2.0
"""The leader stops this much earlier, so that a write that is under way arrives within the term."""

RENEW_SECONDS = 2.0
POLL_SECONDS = 1.0

ATTEMPT_SECONDS = 4.0
"""Limit of one renewal. After a hung connection there is time for a second attempt."""


def running_seconds() -> float:
    """A clock that is never set or stopped. On Linux it also counts the time that a machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Record:
    """The content of a Lease."""

    holder: str
    """Identity of the leader; empty: there is no leader."""
    seconds: int
    transitions: int
    version: str
    """The resourceVersion, for writes that must fail if somebody else has written meanwhile."""


def read(manifest: Mapping[str, Any]) -> Record:
    """Read a Lease as the API server returns it."""
    spec = manifest.get("spec") or {}
    return Record(
        holder=spec.get("holderIdentity") or "",
        seconds=spec.get("leaseDurationSeconds") or LEASE_SECONDS,
        transitions=spec.get("leaseTransitions") or 0,
        version=manifest["metadata"]["resourceVersion"],
    )


def is_free(record: Record, identity: str, unchanged_seconds: float) -> bool:
    """Whether this identity may take the Lease, which it has seen unchanged for `unchanged_seconds`."""
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
        """Remaining seconds of the term in which this process may write; 0 or less: it may not."""
        return self._ends - self._clock()

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Lead whenever the Lease is free, until cancelled; then release the Lease.

        `lead` is cancelled when the Lease is lost, and called again when it is acquired again.
        """
        while True:
            await self._win()
            logger.info("%s is the leader", self._identity)
            work = asyncio.ensure_future(lead())
            try:
                await self._hold(work)
            finally:
                is_held = self.seconds_left() > 0
                self._ends = float("-inf")
                work.cancel()
                await asyncio.wait([work])
                if is_held:  # without the Lease nothing may be written, not even its release
                    await self._release()
            logger.warning("%s is not the leader any more: the Lease was lost", self._identity)

    async def _win(self) -> None:
        while True:
            with contextlib.suppress(ApiError):  # the transport counts it; the next attempt follows
                if await self.attempt():
                    return
            await asyncio.sleep(POLL_SECONDS)

    async def attempt(self) -> bool:
        """Read the Lease once and take it if it is free; returns whether it is held.

        Raises:
            ApiError: the API server refused or did not respond.
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
        """Renew the Lease, which begins a new term.

        Raises:
            ApiError: 409 or 404: another replica holds the Lease, or it is gone; any other error may be transient.
        """
        assert self._held is not None, "only a leader renews"  # noqa: S101 -- for the type checker
        sent = self._clock()
        spec = self._spec(transitions=self._held.transitions, is_new=False)
        self._take(await self._write("PATCH", _patch(self._held, spec)), sent)

    async def _release(self) -> None:
        """Empty the Lease, so that other replicas need not wait for its end. Does nothing if another replica holds
        it."""
        assert self._held is not None, "only a leader releases it"  # noqa: S101 -- for the type checker
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            await self._write("PATCH", _patch(self._held, spec))
        except ApiError as error:
            logger.debug("the Lease could not be released: %s", error)

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
            raise ApiError(0, "NoAnswer", f"no response within {ATTEMPT_SECONDS:.0f} s") from error

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
    # With the version: if another replica has written in between, this write fails with 409.
    return {"metadata": {"resourceVersion": record.version}, "spec": spec}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
