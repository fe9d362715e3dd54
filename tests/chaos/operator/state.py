"""(pure) The state of a pool and all that belongs to it, without what may differ from run to run.

Two runs that ended well have equal states. The state leaves out: uids, versions, times, who set a field, the status of
others' objects. Names and namespaces of a plan become words. Hashes become `as before` or `new`: what matters of them
is whether workers were replaced, and how often, which the number of ReplicaSets says too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celeriac_operator import labels

Manifest = dict[str, Any]
State = Mapping[str, Any]

_POD = re.compile(r"<pool>-[0-9a-z]+-[0-9a-z]{5}\b")

KINDS = ("CeleryWorkerPool", "Deployment", "ReplicaSet", "Secret", "PodDisruptionBudget")


@dataclass(frozen=True)
class Identity:
    """What of the starting point must be recognised later: uids and hashes."""

    words: Mapping[str, str] = field(default_factory=dict)

    def word(self, value: str) -> str:
        """The value's word, if it was there before."""
        return self.words.get(value, "new")


def identify(objects: Mapping[str, list[Manifest]]) -> Identity:
    """Everything that is there before the change."""
    words = {each["metadata"]["uid"]: "as before" for kind in KINDS for each in objects[kind]}
    for deployment in objects["Deployment"]:
        words |= dict.fromkeys(_hashes(deployment).values(), "as before")
    return Identity(words)


def normalise(objects: Mapping[str, list[Manifest]], before: Identity, words: Mapping[str, str]) -> State:
    """The state. `words`: what stands for the plan's own names."""
    pools = {each["metadata"]["uid"]: "this pool" for each in objects["CeleryWorkerPool"]}
    state = {
        "pools": [_pool(each, before) for each in objects["CeleryWorkerPool"]],
        "deployments": [_deployment(each, before, pools) for each in objects["Deployment"]],
        "secrets": [_secret(each, before, pools) for each in objects["Secret"]],
        "budgets": [_owned(each, before, pools) for each in objects["PodDisruptionBudget"]],
        "generations of workers": sum(1 for each in objects["ReplicaSet"] if _is_owned(each, objects["Deployment"])),
    }
    text = json.dumps(state, sort_keys=True)
    for name, word in words.items():
        text = text.replace(name, word)
    text = _POD.sub("<pod>", text)
    found: State = json.loads(text)
    return found


def without_history(state: State) -> State:
    """How it is, not how it came to be so: for a change that was taken back before or after it was done.

    Workers that the change has made may still be there beside the others, since none ever becomes ready here. A Secret
    or a budget that the change takes away is another one when it comes back; the Deployment never is.
    """
    kept = {key: value for key, value in state.items() if key != "generations of workers"}
    kept["deployments"] = [{**each, "generation": None} for each in state["deployments"]]
    kept["pools"] = [_without_counts(each) for each in state["pools"]]
    kept |= {kind: [{**each, "identity": None} for each in state[kind]] for kind in ("secrets", "budgets")}
    return kept


def _without_counts(pool: Manifest) -> Manifest:
    status = {key: value for key, value in pool["status"].items() if key not in ("replicas", "readyReplicas", "ready")}
    conditions = [{**each, "message": None} for each in pool["conditions"]]
    return {**pool, "generation": None, "status": status, "conditions": conditions}


def first_difference(wanted: Any, there: Any, path: str = "") -> str:
    """In words; empty: they are equal."""
    if wanted == there:
        return ""
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        for key in sorted({*wanted, *there}):
            found = first_difference(wanted.get(key), there.get(key), f"{path}.{key}")
            if found:
                return found
    if isinstance(wanted, list) and isinstance(there, list) and len(wanted) == len(there):
        for at, (one, other) in enumerate(zip(wanted, there, strict=True)):
            found = first_difference(one, other, f"{path}[{at}]")
            if found:
                return found
    return f"{path.lstrip('.')} is {json.dumps(there)[:300]}, not {json.dumps(wanted)[:300]}"


def _pool(pool: Manifest, before: Identity) -> Manifest:
    metadata, status = pool["metadata"], dict(pool.get("status") or {})
    generation = metadata["generation"]
    conditions = [
        {key: _generation(value, generation) if key == "observedGeneration" else value for key, value in each.items()}
        for each in status.pop("conditions", [])
        if each["type"] != "Working"  # follows from when workers were asked, and no worker answers here
    ]
    status.pop("work", None)
    status.pop("previousImage", None)  # follows from which of the states in between were seen
    conditions = [{key: each[key] for key in each if key != "lastTransitionTime"} for each in conditions]
    if "stalled" in status:
        status["stalled"] = {key: value for key, value in status["stalled"].items() if key != "since"}
    if "observedGeneration" in status:
        status["observedGeneration"] = _generation(status["observedGeneration"], generation)
    return {
        "identity": before.word(metadata["uid"]),
        "generation": generation,
        "labels": metadata.get("labels"),
        "annotations": metadata.get("annotations"),
        "spec": pool["spec"],
        "status": status,
        "conditions": sorted(conditions, key=lambda each: each["type"]),
    }


def _generation(number: int, present: int) -> str:
    return "the present one" if number == present else f"{number} of {present}"


def _owned(there: Manifest, before: Identity, pools: Mapping[str, str]) -> Manifest:
    metadata = there["metadata"]
    owners = [{**each, "uid": pools.get(each["uid"], "another pool")} for each in metadata.get("ownerReferences") or []]
    annotations = metadata.get("annotations") or {}
    return {
        "name": metadata["name"],
        "identity": before.word(metadata["uid"]),
        "labels": metadata.get("labels"),
        "annotations": {
            key: value for key, value in annotations.items() if not key.startswith("deployment.kubernetes")
        },
        "owners": owners,
        "leaving": "deletionTimestamp" in metadata,
        "spec": there.get("spec"),
    }


def _deployment(there: Manifest, before: Identity, pools: Mapping[str, str]) -> Manifest:
    found = {**_owned(there, before, pools), "generation": there["metadata"]["generation"]}
    annotations = there["spec"]["template"]["metadata"].get("annotations") or {}
    hashes = {key: before.word(value) for key, value in _hashes(there).items()}
    template = {**there["spec"]["template"], "metadata": {**there["spec"]["template"]["metadata"]}}
    template["metadata"]["annotations"] = {**annotations, **hashes}
    return {**found, "spec": {**there["spec"], "template": template}}


def _hashes(deployment: Manifest) -> dict[str, str]:
    annotations = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    return {key: annotations[key] for key in (labels.TEMPLATE_HASH, labels.SECRETS_DIGEST) if key in annotations}


def _secret(there: Manifest, before: Identity, pools: Mapping[str, str]) -> Manifest:
    return {**_owned(there, before, pools), "data": there.get("data"), "type": there["type"]}


def _is_owned(replica_set: Manifest, deployments: list[Manifest]) -> bool:
    uids = {each["metadata"]["uid"] for each in deployments}
    return any(each["uid"] in uids for each in replica_set["metadata"].get("ownerReferences") or [])
