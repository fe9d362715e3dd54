"""Where do changes of the cluster arrive? They go into the caches, and the pools that they concern into the queue."""

from __future__ import annotations

from celeriac_operator.cluster.kinds import Kind
from celeriac_operator.manifest import Manifest
from celeriac_operator.memory.caches import Caches, Key, key_of, version_of
from celeriac_operator.metrics import Metrics
from celeriac_operator.workqueue import WorkQueue


class Intake:
    """Takes in watch events, lists and reads."""

    def __init__(self, caches: Caches, queue: WorkQueue[Key], metrics: Metrics) -> None:
        self._queue = queue
        self._metrics = metrics
        self._caches = caches

    def event(self, kind: Kind, manifest: Manifest) -> None:
        """A watch reports the new state of an object."""
        self._metrics.count_event(kind.kind)
        self.found(kind, manifest)

    def deletion(self, kind: Kind, manifest: Manifest) -> None:
        """A watch reports that an object was deleted."""
        self._metrics.count_event(kind.kind)
        self.lost(kind, key_of(manifest), version_of(manifest))

    def found(self, kind: Kind, manifest: Manifest) -> None:
        """Take in the state of an object, whatever its source."""
        self._add(self._caches.found(kind, manifest))

    def lost(self, kind: Kind, key: Key, version: int) -> None:
        """Take in that an object is gone, as of this version."""
        self._add(self._caches.lost(kind, key, version))

    def _add(self, keys: set[Key]) -> None:
        for key in keys:
            self._queue.add(key)
