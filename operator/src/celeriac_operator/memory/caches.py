"""What is the newest known state of each object? Filled by watch events and by the responses to the operator's writes.

Only the newest version of an object counts. The response to a write arrives before its watch event; an older event that
is still on its way must not bring the old state back, or the write would be repeated. Versions are compared as numbers:
Kubernetes promises that for resourceVersion since 1.35, and etcd has always made it true.

Values of Secrets are never kept: only facts about them, and only for Secrets that a pool names or owns.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from celeriac_operator import labels, names, reasons
from celeriac_operator.cluster import kinds
from celeriac_operator.cluster.kinds import Kind
from celeriac_operator.decide import last_words, observed, references, replicas, secrets, victims, work
from celeriac_operator.decide.last_words import LastWords
from celeriac_operator.decide.observed import Pod
from celeriac_operator.manifest import Manifest
from celeriac_operator.memory import keeping
from celeriac_operator.resource import KIND, CeleryWorkerPool

Content = TypeVar("Content")


LAST_WORDS = 16
"""Most that are kept for one pool, newest first to stay. A replica that does not lead reports none, so they would add
up."""


class Key(NamedTuple):
    """Namespace and name of an object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class _Entry(NamedTuple, Generic[Content]):
    version: int
    content: Content


class Store(Generic[Content]):
    """The newest known content of each object of a kind, by namespace and name."""

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry[Content]] = {}
        self._removed: dict[Key, int] = {}
        self._removed_before: dict[Key, int] = {}

    def get(self, key: Key) -> Content | None:
        """The known content; None: the object is not known."""
        entry = self._entries.get(key)
        return entry.content if entry else None

    def version(self, key: Key) -> int:
        """The known version; 0: the object is not known."""
        entry = self._entries.get(key)
        return entry.version if entry else 0

    def put(self, key: Key, version: int, content: Content) -> bool:
        """Store the content if its version is newer; returns whether it was."""
        if version <= max(self.version(key), self._removed.get(key, 0), self._removed_before.get(key, 0)):
            return False
        self._entries[key] = _Entry(version, content)
        self._removed.pop(key, None)
        self._removed_before.pop(key, None)
        return True

    def remove(self, key: Key, version: int) -> bool:
        """Remove the object unless a newer version is known; returns whether it was removed."""
        # Remembered, because the response to a write may arrive after the event of the deletion.
        self._removed[key] = max(version, self._removed.get(key, 0))
        if 0 < self.version(key) <= version:
            del self._entries[key]
            return True
        return False

    def discard(self, key: Key) -> None:
        """Forget the object as if it had never been seen: no pool needs it any more."""
        self._entries.pop(key, None)
        self._removed.pop(key, None)
        self._removed_before.pop(key, None)

    def known(self) -> list[Key]:
        """The keys of all known objects."""
        return list(self._entries)

    def forget_removed(self) -> None:
        """Forget the removals from before the previous call. Between two calls every response to a write arrives."""
        self._removed_before, self._removed = self._removed, {}

    def __len__(self) -> int:
        return len(self._entries)


class Caches:
    """All caches. Each method that takes in a change returns the keys of the pools that it concerns."""

    def __init__(self) -> None:
        self.pools: Store[Manifest] = Store()
        self.deployments: Store[Manifest] = Store()
        self.budgets: Store[Manifest] = Store()
        self.pods: Store[tuple[Key, Pod] | None] = Store()
        """A pool's workers; None stands for a pod that has the operator's label and is no worker of any pool."""
        self.secrets: Store[secrets.Facts] = Store()
        self.applied: dict[Key, dict[str, observed.Applied]] = {}
        self._pods_of: dict[Key, dict[str, Pod]] = {}
        self._workers_of: dict[Key, dict[str, victims.Worker]] = {}
        self._last_words: dict[Key, deque[LastWords]] = {}
        self._named_by: dict[Key, set[str]] = {}  # Secret -> pools of its namespace that name it
        self._names_of: dict[Key, frozenset[str]] = {}
        self._lost_replicas: dict[Key, int] = {}
        self._observe: Mapping[Kind, Callable[[Manifest], set[Key]]] = {
            kinds.POOL: self.observe_pool,
            kinds.DEPLOYMENT: self.observe_deployment,
            kinds.DISRUPTION_BUDGET: self.observe_budget,
            kinds.POD: self.observe_pod,
            kinds.SECRET: self.observe_secret,
        }
        self._remove: Mapping[Kind, Callable[[Key, int], set[Key]]] = {
            kinds.POOL: self.remove_pool,
            kinds.DEPLOYMENT: self.remove_deployment,
            kinds.DISRUPTION_BUDGET: self.remove_budget,
            kinds.POD: self.remove_pod,
            kinds.SECRET: self.remove_secret,
        }

    def found(self, kind: Kind, manifest: Manifest) -> set[Key]:
        """Take in the state of an object of any watched kind."""
        return self._observe[kind](manifest)

    def lost(self, kind: Kind, key: Key, version: int) -> set[Key]:
        """Take in that an object of any watched kind is gone, as of this version."""
        return self._remove[kind](key, version)

    def observe_pool(self, manifest: Manifest) -> set[Key]:
        """A pool was added or changed."""
        key = key_of(manifest)
        before = self.pools.get(key)
        kept = keeping.within_bounds(keeping.lean(manifest))
        if not self.pools.put(key, version_of(manifest), kept):
            return set()
        lost = replicas.before_removal(before, manifest)
        if lost is not None:
            self._lost_replicas[key] = lost
        elif manifest["spec"].get("replicas", replicas.DEFAULT) != replicas.DEFAULT:
            self._lost_replicas.pop(key, None)
        self._note_names(key, keeping.secret_names(kept))
        return {key}

    def observe_scale(self, key: Key, scale: Manifest) -> set[Key]:
        """Take in a response of the scale subresource, which has the new number before the watch event does.

        Other fields may have changed up to that version too. So the state is stored under the version just before it,
        and the pool's own event still counts as newer.
        """
        known, version = self.pools.get(key), version_of(scale)
        if known is None:
            return set()
        if self.pools.version(key) != version - 1:  # else nothing can have changed in between
            version -= 1
        metadata = {**known["metadata"], "resourceVersion": str(version)}
        metadata["generation"] = metadata.get("generation", 1) + 1
        # A Scale omits a zero.
        spec = {**known["spec"], "replicas": (scale.get("spec") or {}).get("replicas", 0)}
        return {key} if self.pools.put(key, version, {**known, "metadata": metadata, "spec": spec}) else set()

    def lost_replicas(self, pool: Key) -> int | None:
        """The number that was reset because `replicas` was taken out of a manifest; None: none was."""
        return self._lost_replicas.get(pool)

    def forget_lost_replicas(self, pool: Key) -> None:
        """The number has been restored."""
        self._lost_replicas.pop(pool, None)

    def setters_of_replicas(self, pool: Key) -> list[str]:
        """The managers that have set the pool's number of workers; none: it is the default."""
        manifest = self.pools.get(pool)
        entries = manifest["metadata"].get("managedFields") or () if manifest else ()
        return [entry["manager"] for entry in entries]

    def unschedulable(self, pool: Key) -> int:
        """Number of the pool's workers that cannot be scheduled."""
        return sum(bool(pod.unschedulable) and not pod.deleting for pod in self._pods_of.get(pool, {}).values())

    def remove_pool(self, key: Key, version: int) -> set[Key]:
        """A pool is gone."""
        if not self.pools.remove(key, version):
            return set()
        self.applied.pop(key, None)
        self._lost_replicas.pop(key, None)
        self._last_words.pop(key, None)
        self._note_names(key, frozenset())
        return {key}

    def observe_deployment(self, manifest: Manifest) -> set[Key]:
        """An owned Deployment was added or changed."""
        key = key_of(manifest)
        return {key} if self.deployments.put(key, version_of(manifest), keeping.with_managers(manifest)) else set()

    def remove_deployment(self, key: Key, version: int) -> set[Key]:
        """An owned Deployment is gone."""
        return {key} if self.deployments.remove(key, version) else set()

    def observe_budget(self, manifest: Manifest) -> set[Key]:
        """An owned PodDisruptionBudget was added or changed."""
        key, kept = key_of(manifest), keeping.without_status(manifest)
        before = self.budgets.get(key)
        if not self.budgets.put(key, version_of(manifest), kept):
            return set()
        # Its status changes with every worker, and no rule uses it.
        return {key} if before is None or keeping.unversioned(before) != keeping.unversioned(kept) else set()

    def remove_budget(self, key: Key, version: int) -> set[Key]:
        """An owned PodDisruptionBudget is gone."""
        return {key} if self.budgets.remove(key, version) else set()

    def note_applied(self, pool: Key, kind: str, applied: observed.Applied) -> None:
        """Remember the result of an apply."""
        self.applied.setdefault(pool, {})[kind] = applied

    def observe_pod(self, manifest: Manifest) -> set[Key]:
        """A worker pod was added or changed."""
        key = key_of(manifest)
        pool = Key(key.namespace, (manifest["metadata"].get("labels") or {}).get(labels.POOL, ""))
        if not observed.is_worker_of(pool.name, manifest):
            # Kept as a version only, or the comparison with the cluster would take its events for lost.
            gone = self._forget_pod(key)
            self.pods.put(key, version_of(manifest), None)
            return gone
        pod = observed.read_pod(manifest)
        before = self.pods.get(key)
        if not self.pods.put(key, version_of(manifest), (pool, pod)):
            return set()
        self._pods_of.setdefault(pool, {})[key.name] = pod
        self._workers_of.setdefault(pool, {})[key.name] = victims.read_worker(manifest)
        said = last_words.read(pod)
        # Kept here, because the pod may be gone before the next pass.
        if said is not None and (before is None or last_words.read(before[1]) != said):
            self._last_words.setdefault(pool, deque(maxlen=LAST_WORDS)).append(said)
        # Most updates of a pod change nothing that a rule uses.
        return {pool} if before != (pool, pod) else set()

    def remove_pod(self, key: Key, version: int) -> set[Key]:
        """A worker pod is gone."""
        pools = self._forget_pod(key) if 0 < self.pods.version(key) <= version else set()
        self.pods.remove(key, version)
        return pools

    def _forget_pod(self, key: Key) -> set[Key]:
        before = self.pods.get(key)
        if before is None:
            return set()
        pool, _ = before
        _forget(self._pods_of, pool, key.name)
        _forget(self._workers_of, pool, key.name)
        return {pool}

    def workers(self, pool: Key) -> tuple[victims.Worker, ...]:
        """The pool's pods, as candidates for removal when it is scaled down."""
        return tuple(self._workers_of.get(pool, {}).values())

    def askable(self) -> Iterator[tuple[Key, work.Asked]]:
        """Workers that run and belong to their pool's Deployment, each with its pool."""
        for pool, workers in self._workers_of.items():
            pods = self._pods_of.get(pool, {})
            for name, worker in workers.items():
                pod = pods[name]
                if worker.status_url and worker.owned_by == pool.name and not worker.leaving and pod.runs:
                    yield pool, work.Asked(uid=worker.uid, name=name, url=worker.status_url, is_ready=pod.ready)

    def take_last_words(self, pool: Key) -> tuple[LastWords, ...]:
        """Take the last words about unfinished tasks that have arrived since the previous call."""
        return tuple(self._last_words.pop(pool, ()))

    def observe_secret(self, manifest: Manifest) -> set[Key]:
        """A Secret was added or changed; facts about it are kept only if a pool names or owns it."""
        key = key_of(manifest)
        facts = secrets.examine(manifest)
        pools = self._concerned(key, facts)
        if not pools or not self.secrets.put(key, version_of(manifest), facts):
            return set()
        return pools

    def remove_secret(self, key: Key, version: int) -> set[Key]:
        """A Secret is gone."""
        pools = self._concerned(key, self.secrets.get(key) or secrets.ABSENT)
        # Its absence is stored, so the next pass need not read it.
        return pools if pools and self.secrets.put(key, version, secrets.ABSENT) else set()

    def note_secret(self, key: Key, facts: secrets.Facts) -> None:
        """Store the result of a read, unless an event has brought a newer version meanwhile."""
        self.secrets.put(key, max(int(facts.resource_version or 0), 1), facts)

    def unknown_secrets(self, pool: CeleryWorkerPool) -> list[Key]:
        """Secrets that the pool names and that are in no cache yet."""
        keys = (Key(pool.metadata.namespace, name) for name in sorted(references.secret_names(pool)))
        return [key for key in keys if self.secrets.get(key) is None]

    def observe(self, pool: CeleryWorkerPool) -> observed.Observed:
        """Everything that is known of one pool."""
        key = Key(pool.metadata.namespace, pool.metadata.name)
        wanted = {*references.secret_names(pool), names.sentry_secret(pool)}
        facts = {name: found for name in wanted if (found := self.secrets.get(Key(key.namespace, name))) is not None}
        return observed.Observed(
            pool=pool,
            deployment=self.deployments.get(key),
            pods=tuple(self._pods_of.get(key, {}).values()),
            secrets=facts,
            budget=self.budgets.get(key),
            applied=dict(self.applied.get(key, {})),
        )

    def forget_removed(self) -> None:
        """Forget what is gone; call it once for each comparison with the cluster."""
        for store in (self.pools, self.deployments, self.budgets, self.pods, self.secrets):
            store.forget_removed()
        for pool in (self.applied.keys() | self._last_words.keys()) - set(self.pools.known()):
            self.applied.pop(pool, None)
            self._last_words.pop(pool, None)
        for key in self.secrets.known():
            facts = self.secrets.get(key)
            if facts is not None and not facts.exists and key not in self._named_by:
                self.secrets.discard(key)

    def conditions(self) -> Counter[tuple[str, str, str]]:
        """Number of pools with each condition: type, status, reason."""
        return Counter(
            (condition["type"], condition["status"], condition["reason"])
            for key in self.pools.known()
            for condition in ((self.pools.get(key) or {}).get("status") or {}).get("conditions") or ()
            # Others are not the operator's, and everybody who may write a status could fill the metrics with them.
            if reasons.is_known(condition["type"], condition["status"], condition["reason"])
        )

    def pool_conditions(self) -> Iterator[tuple[str, str, str, str, str]]:
        """Namespace and name of each pool with each of its conditions: type, status, reason."""
        for key in self.pools.known():
            for condition in ((self.pools.get(key) or {}).get("status") or {}).get("conditions") or ():
                yield key.namespace, key.name, condition["type"], condition["status"], condition["reason"]

    def _concerned(self, key: Key, facts: secrets.Facts) -> set[Key]:
        pools = {Key(key.namespace, name) for name in self._named_by.get(key, ())}
        kind, _, owner = facts.owner.partition(" ")
        if kind == KIND:
            pools.add(Key(key.namespace, owner))
        return pools

    def _note_names(self, pool: Key, now: frozenset[str]) -> None:
        for name in self._names_of.pop(pool, frozenset()) - now:
            secret = Key(pool.namespace, name)
            self._named_by[secret].discard(pool.name)
            if not self._named_by[secret]:
                del self._named_by[secret]
                self._drop_secret(secret)
        for name in now:
            self._named_by.setdefault(Key(pool.namespace, name), set()).add(pool.name)
        if now:
            self._names_of[pool] = now

    def _drop_secret(self, key: Key) -> None:
        facts = self.secrets.get(key)
        if facts is None or not facts.owner.startswith(f"{KIND} "):
            self.secrets.discard(key)


def key_of(manifest: Manifest) -> Key:
    """Namespace and name of an object."""
    return Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def version_of(manifest: Manifest) -> int:
    """The object's resourceVersion as a number."""
    return int(manifest["metadata"]["resourceVersion"])


def _forget(known: dict[Key, dict[str, Content]], pool: Key, name: str) -> None:
    remaining = known.get(pool, {})
    remaining.pop(name, None)
    if not remaining:
        known.pop(pool, None)
