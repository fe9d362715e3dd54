"""News of the cluster: into the caches, and the pools that they concern into the queue. No decision, no write."""

from __future__ import annotations

from celeriac_operator.cluster.kinds import Kind
from celeriac_operator.manifest import Manifest
from celeriac_operator.memory.caches import Caches, Key, key_of, version_of
from celeriac_operator.metrics import Metrics
from celeriac_operator.workqueue import WorkQueue


class Intake:
    """Where watch events, lists and reads arrive."""

    def __init__(self, caches: Caches, queue: WorkQueue[Key], metrics: Metrics) -> None:
        self._queue = queue
        self._metrics = metrics
        self._caches = caches

    def event(self, kind: Kind, manifest: Manifest) -> None:
        """A watch reports a new state."""
        self._metrics.count_event(kind.kind)
        self.found(kind, manifest)

    def deletion(self, kind: Kind, manifest: Manifest) -> None:
        """A watch reports that an object is gone."""
        self._metrics.count_event(kind.kind)
        self.lost(kind, key_of(manifest), version_of(manifest))

    def found(self, kind: Kind, manifest: Manifest) -> None:
        """A state of an object, from wherever."""
        self._add(self._caches.found(kind, manifest))

    def lost(self, kind: Kind, key: Key, version: int) -> None:
        """An object is gone, as of this version."""
        self._add(self._caches.lost(kind, key, version))

    def _add(self, keys: set[Key]) -> None:
        for key in keys:
            self._queue.add(key)
