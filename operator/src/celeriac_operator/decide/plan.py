"""(pure) What must be applied or deleted so that the cluster matches the pool?

The decisions that need both the observed and the wanted objects are made here: which library image a pool keeps, which
objects belong to the pool, what differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from celeriac_operator import labels, names
from celeriac_operator.decide import difference, observed, ownership, references, secrets
from celeriac_operator.decide.observed import Applied, Observed
from celeriac_operator.desired import build as desired
from celeriac_operator.desired import deployment, sentry_secret
from celeriac_operator.desired.build import Choices, TemplateError
from celeriac_operator.manifest import Manifest
from celeriac_operator.resource import CeleryWorkerPool
from celeriac_operator.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Apply:
    """Apply a manifest server-side."""

    manifest: Manifest
    uid: str
    """Uid of the observed object, so that no other object of that name is changed; empty: none was observed."""
    reason: str
    """The first difference, for people."""
    editor: str = ""
    """The manager that has changed the object, as far as the object tells; empty: nobody but the operator."""
    is_correction: bool = False
    """Whether this manifest was applied before, so that somebody else has changed the object since."""
    takes_over: bool = False
    """Whether fields of other managers must be taken over first, because the manifest does not have them."""


@dataclass(frozen=True, kw_only=True)
class Delete:
    """Delete an owned object that is not wanted any more."""

    kind: str
    name: str
    uid: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """An object that does not belong to the pool has the name that the pool needs; it is left alone."""

    kind: str
    name: str
    owner: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do, in order, and what prevents the rest."""

    actions: tuple[Apply | Delete, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    """Objects of other owners that have the pool's names."""
    waiting_for: str = ""
    """The object whose deletion must finish first; empty: none."""
    template_error: str = ""
    """Why the pod template cannot be built; empty: it can."""
    contested: bool = False
    """Whether an object is left as it is for a while, because somebody keeps changing it."""
    held: str = ""
    """The missing Secret without which new workers cannot start, so none are created; empty: none is missing."""


def choose(seen: Observed, settings: Settings) -> Choices:
    """Choose the operator's part of the pod template.

    An upgrade of the operator brings a newer library and must not restart workers. So a pool keeps the library of its
    Deployment until its template changes for another reason, or a person asks for the newer one.

    Raises:
        TemplateError: the pool's template patch cannot be merged.
    """
    newest = Choices(
        library_image=settings.worker_image,
        pull_policy=settings.worker_image_pull_policy,
        secrets_digest=choose_digest(seen),
        default_dsn=seen.default_dsn,
    )
    running = running_library(seen.deployment)
    asked = seen.pool.metadata.annotations.get(labels.UPGRADE_LIBRARY) == "now"
    if not running or asked or settings.workers_upgrade == "Immediately":
        return newest
    kept = replace(
        newest, library_image=running, pull_policy=_running_pull_policy(seen.deployment) or newest.pull_policy
    )
    return kept if _wanted_hash(seen.pool, kept) == observed.template_hash(seen.deployment) else newest


def choose_digest(seen: Observed) -> str | None:
    """A digest of the URLs in Secrets. While one of them is missing, the digest of the running workers is kept."""
    parts = []
    for name, key in references.url_keys(seen.pool):
        value = seen.secrets.get(name, secrets.ABSENT).values.get(key)
        if value is None:
            return observed.template_annotation(seen.deployment, labels.SECRETS_DIGEST) or None
        parts.append(value.digest)
    return secrets.combined_digest(parts) if parts else None


def missing_secret(seen: Observed) -> str:
    """The Secret, or its key, that the workers need and that does not exist, for people; empty: none."""
    return _missing(seen, references.url_keys(seen.pool))


def missing_broker_secret(seen: Observed) -> str:
    """The same, for the broker's URL only."""
    return _missing(seen, references.broker_keys(seen.pool))


def _missing(seen: Observed, keys: tuple[tuple[str, str], ...]) -> str:
    for name, key in keys:
        facts = seen.secrets.get(name)
        if facts is None or not facts.readable:
            continue
        if not facts.exists:
            namespace = seen.pool.metadata.namespace
            return f"Secret {name} does not exist in namespace {namespace}: the pool reads its key {key}"
        if key not in facts.values:
            return f"Secret {name} has no key {key}"
    return ""


def running_library(deployment: Manifest | None) -> str:
    """The library image of the Deployment; empty: none."""
    return observed.annotation(deployment, labels.LIBRARY_IMAGE)


def build(seen: Observed, settings: Settings) -> Plan:
    """Plan the changes for one pool."""
    if seen.pool.metadata.deletion_timestamp is not None:
        return Plan()  # Kubernetes deletes what the pool owns
    try:
        wanted = desired.build(seen.pool, choose(seen, settings))
    except TemplateError as error:
        return Plan(template_error=str(error))
    actions: list[Apply | Delete] = []
    conflicts: list[Conflict] = []
    waiting_for = held = ""
    contested = False
    for manifest in wanted:
        match _judge(seen, manifest):
            case Apply() as action if _must_wait(seen, manifest):
                held = missing_secret(seen)
            case Apply(is_correction=True) if manifest["kind"] in seen.paused_kinds:
                contested = True
            case Conflict() as conflict:
                conflicts.append(conflict)
            case Apply() | Delete() as action:
                actions.append(action)
            case str() as leaving:
                waiting_for = leaving
    actions += _leftovers(seen, wanted)
    return Plan(
        actions=tuple(actions), conflicts=tuple(conflicts), waiting_for=waiting_for, held=held, contested=contested
    )


def _judge(seen: Observed, manifest: Manifest) -> Apply | Delete | Conflict | str | None:
    """Decide about one wanted manifest: an action, a conflict, nothing, or the text of what to wait for."""
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    if kind == "Secret":
        return _judge_secret(seen, manifest)
    there = seen.deployment if kind == "Deployment" else seen.budget
    if there is None:
        return Apply(manifest=manifest, uid="", reason="it does not exist", is_correction=_was_applied(seen, manifest))
    owner = observed.controller(there)
    if _is_leaving(seen.pool, there, owner):
        return f"the {kind} {name} of an earlier pool to be removed"
    if not is_ours(seen.pool, there):
        shown = f"{owner['kind']} {owner['name']}" if owner else ""
        return Conflict(kind=kind, name=name, owner=shown)
    return _judge_difference(seen, manifest, there)


def _judge_difference(seen: Observed, manifest: Manifest, there: Manifest) -> Apply | Delete | None:
    kind, name, uid = manifest["kind"], manifest["metadata"]["name"], there["metadata"]["uid"]
    added = ownership.added(manifest, there)
    found = difference.first(manifest, there) or next(iter(added), None)
    # The last apply of this manifest led to this generation, so applying it again would change nothing.
    applied = Applied(digest=digest(manifest), generation=there["metadata"]["generation"])
    if found is None or seen.applied.get(kind) == applied:
        return None
    for limit in ("maxUnavailable", "minAvailable"):
        if limit in there["spec"] and limit not in manifest["spec"] and not added:
            # Another manager has set it, and the API server accepts no budget with both. The next pass creates it
            # again.
            return Delete(kind=kind, name=name, uid=uid, reason=f"spec.{limit} must be removed")
    return Apply(
        manifest=manifest,
        uid=uid,
        reason=found,
        editor=ownership.editor(there),
        is_correction=_was_applied(seen, manifest),
        takes_over=bool(added),
    )


def _was_applied(seen: Observed, manifest: Manifest) -> bool:
    applied = seen.applied.get(manifest["kind"])
    return applied is not None and applied.digest == digest(manifest)


def digest(manifest: Manifest) -> str:
    """Digest of a manifest."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _must_wait(seen: Observed, manifest: Manifest) -> bool:
    """Whether to wait for a missing Secret: new workers could not start without it, and would be replaced when it is
    created."""
    if manifest["kind"] != "Deployment" or not missing_secret(seen):
        return False
    return observed.template_hash(seen.deployment) != observed.template_hash(manifest)


def is_ours(pool: CeleryWorkerPool, there: Manifest) -> bool:
    """Whether this pool controls the object, or an earlier pool of this name left it behind without an owner."""
    owner = observed.controller(there)
    if owner is not None:
        return bool(owner["uid"] == pool.metadata.uid)
    marks = there["metadata"].get("labels") or {}
    return marks.get(labels.MANAGED_BY) == labels.MANAGER and marks.get(labels.POOL) == pool.metadata.name


def _is_leaving(pool: CeleryWorkerPool, there: Manifest, owner: Manifest | None) -> bool:
    """Whether the object is being deleted, or belongs to an earlier pool of this name and will be garbage-collected."""
    if "deletionTimestamp" in there["metadata"]:
        return True
    same_name = owner is not None and (owner["kind"], owner["name"]) == ("CeleryWorkerPool", pool.metadata.name)
    return same_name and owner is not None and owner["uid"] != pool.metadata.uid


def _judge_secret(seen: Observed, manifest: Manifest) -> Apply | Conflict | None:
    name, again = manifest["metadata"]["name"], _was_applied(seen, manifest)
    there = seen.secrets.get(name, secrets.ABSENT)
    if not there.exists or there.deleting:
        return Apply(manifest=manifest, uid="", reason="it does not exist", is_correction=again)
    if there.owner_uid != seen.pool.metadata.uid:
        return Conflict(kind="Secret", name=name, owner=there.owner)
    dsn = sentry_secret.dsn_of(seen.pool, seen.default_dsn)
    value = there.values.get(names.SENTRY_KEY)
    if value is not None and value.digest == secrets.digest(there.uid, dsn.encode()):
        return None
    return Apply(manifest=manifest, uid=there.uid, reason=f"data.{names.SENTRY_KEY} differs", is_correction=again)


def _leftovers(seen: Observed, wanted: tuple[dict[str, Any], ...]) -> Iterator[Delete]:
    """Owned objects that the pool does not need any more."""
    kinds = {manifest["kind"] for manifest in wanted}
    name = names.sentry_secret(seen.pool)
    secret = seen.secrets.get(name, secrets.ABSENT)
    is_owned = secret.exists and secret.owner_uid == seen.pool.metadata.uid
    if "Secret" not in kinds and is_owned and not secret.deleting:
        yield Delete(kind="Secret", name=name, uid=secret.uid, reason="the pool needs none")
    budget = seen.budget
    if budget is None or "PodDisruptionBudget" in kinds or "deletionTimestamp" in budget["metadata"]:
        return
    if is_ours(seen.pool, budget):
        name, uid = budget["metadata"]["name"], budget["metadata"]["uid"]
        yield Delete(kind="PodDisruptionBudget", name=name, uid=uid, reason="the pool needs none")


def _wanted_hash(pool: CeleryWorkerPool, choices: Choices) -> str:
    wanted = deployment.build(pool, choices)
    return str(wanted["spec"]["template"]["metadata"]["annotations"][labels.TEMPLATE_HASH])


def _running_pull_policy(deployment: Manifest | None) -> Any:
    containers = deployment["spec"]["template"]["spec"].get("initContainers", []) if deployment else []
    return next(
        (container.get("imagePullPolicy") for container in containers if container["name"] == names.INJECT_CONTAINER),
        None,
    )
