"""(pure) What is the pod template of a pool's workers?

If this module returns something else for an unchanged pool, an upgrade of the operator restarts that pool's workers.
Golden manifests hold every byte of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celeriac_operator import bounded, labels, names, quantity
from celeriac_operator.desired import contract, probes, strategic_merge
from celeriac_operator.manifest import Draft
from celeriac_operator.resource import CeleryWorkerPool, Spec, UrlFrom

DRAIN_MARGIN_SECONDS = 30
"""Time after the drain's timeout to return messages to the queue, flush Sentry and logs, and exit."""

OWN_VARIABLES = "CELERIAC_"
LIBRARY_SIZE = "128Mi"
"""Size limit of the folder that the library is copied to; it needs a few MiB."""

RESTRICTED: Mapping[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""Together with the pod's security context this satisfies the Pod Security level `restricted`."""

READABLE_BY_ALL = 0o444
"""The application reads the DSN and the webhook, and its user is not known."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the operator adds to the pool's own settings."""

    library_image: str
    """Image that the worker library is injected from."""
    pull_policy: str = "IfNotPresent"
    """The imagePullPolicy of that image."""
    secrets_digest: str | None = None
    """Digest of the URLs in the Secrets that the pool names; None: not known yet."""
    default_dsn: str = field(default="", repr=False)
    """Sentry DSN of pools with a sentry section that sets none; empty: there is none. It is in no pod template."""


class TemplateError(ValueError):
    """The pool's `template` cannot be used; the message says where and what to write instead."""


def build(pool: CeleryWorkerPool, choices: Choices) -> Draft:
    """Build the pod template with the pool's patch merged into it, annotated with its own hash.

    Raises:
        TemplateError: the patch cannot be merged, or removes the worker's container.
    """
    template = _patched(pool, _base(pool, choices))
    worker = _worker_of(template)
    _configure(pool, template, worker)
    template["metadata"].setdefault("annotations", {})[labels.TEMPLATE_HASH] = _hash(template)
    return template


def _base(pool: CeleryWorkerPool, choices: Choices) -> Draft:
    spec = pool.spec
    inject = spec.inject == "Always"
    volumes = [*([_library_volume()] if inject else []), *_sentry_volumes(pool), *_slack_volumes(spec)]
    annotations = {labels.SECRETS_DIGEST: choices.secrets_digest} if choices.secrets_digest else {}
    restart = pool.metadata.annotations.get(labels.RESTART)
    if restart is not None:
        annotations[labels.RESTART] = restart
    return {
        "metadata": {"labels": labels.owned(pool), **({"annotations": annotations} if annotations else {})},
        "spec": {
            **({"initContainers": [_inject_container(spec, choices)]} if inject else {}),
            "containers": [_worker_container(spec, inject=inject)],
            **({"volumes": volumes} if volumes else {}),
            "terminationGracePeriodSeconds": contract.drain_seconds(spec) + DRAIN_MARGIN_SECONDS,
            "automountServiceAccountToken": False,
            # Variables for every Service of the namespace could change the application's settings by accident.
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    }


def _worker_container(spec: Spec, *, inject: bool) -> Draft:
    start = [f"{names.LIBRARY_PATH}/launch.py"] if inject else ["-m", "celeriac"]
    mounts = []
    if inject:
        mounts.append({"name": names.LIBRARY_VOLUME, "mountPath": names.LIBRARY_PATH, "readOnly": True})
        # On nearly every image's PATH: kubectl exec POD -- celeriac doctor.
        command = {"mountPath": names.COMMAND_FILE, "subPath": names.COMMAND, "readOnly": True}
        mounts.append({"name": names.LIBRARY_VOLUME, **command})
    if spec.sentry is not None:
        mounts.append({"name": names.SENTRY_VOLUME, "mountPath": names.SENTRY_PATH, "readOnly": True})
    if spec.notifications is not None:
        mounts.append({"name": names.SLACK_VOLUME, "mountPath": names.SLACK_PATH, "readOnly": True})
    env_from = [source.model_dump(by_alias=True, exclude_none=True) for source in spec.env_from]
    resources = spec.resources.model_dump(by_alias=True, exclude_none=True) if spec.resources else {}
    return {
        "name": names.WORKER_CONTAINER,
        "image": spec.image,
        "command": [*spec.worker.python, *start, "worker"],
        **({"envFrom": env_from} if env_from else {}),
        "env": [
            *_own_variables(spec),
            *(variable.model_dump(by_alias=True, exclude_none=True) for variable in spec.env),
        ],
        "ports": [{"name": names.HEALTH_PORT, "containerPort": spec.liveness.port, "protocol": "TCP"}],
        **probes.build(spec.liveness),
        **({"resources": resources} if resources else {}),
        **({"volumeMounts": mounts} if mounts else {}),
        # The worker writes one sentence there; if it cannot, Kubernetes takes its last log lines.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        # The root file system stays writable: the application's image may need that.
        "securityContext": dict(RESTRICTED),
    }


def _own_variables(spec: Spec) -> list[Draft]:
    fields = {
        "CELERIAC_POD_NAME": "metadata.name",
        "CELERIAC_POD_NAMESPACE": "metadata.namespace",
        "CELERIAC_POD_UID": "metadata.uid",
        "CELERIAC_NODE_NAME": "spec.nodeName",
    }
    # The server would add apiVersion; it is set here so that the object reads back as it was sent.
    variables: list[Draft] = [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for name, path in fields.items()
    ]
    said = {each.name for each in spec.env} | _names_in_template(spec)
    sections = (
        ("CELERIAC_BROKER_URL", spec.broker),
        ("CELERIAC_RESULT_BACKEND_URL", spec.result_backend),
        # Celery's own, for its commands in the pod: celery inspect, celery call.
        ("CELERY_BROKER_URL", spec.broker),
        ("CELERY_RESULT_BACKEND", spec.result_backend),
    )
    for name, section in sections:
        if section is None or name in said:
            continue
        if section.url_from is not None:
            variables.append({"name": name, "valueFrom": {"secretKeyRef": _key(section.url_from)}})
        elif section.url is not None:
            variables.append({"name": name, "value": _literal(section.url)})
    return variables


def _names_in_template(spec: Spec) -> set[str]:
    """Variables that the pool's template gives to the worker; two sources of one variable cannot be merged."""
    pod = (spec.template.spec or {}) if spec.template else {}
    containers = [each for each in pod.get("containers") or () if isinstance(each, Mapping)]
    return {
        str(variable.get("name"))
        for container in containers
        if container.get("name") == names.WORKER_CONTAINER
        for variable in container.get("env") or ()
        if isinstance(variable, Mapping)
    }


def _key(source: UrlFrom) -> Draft:
    return {"name": source.secret_key_ref.name, "key": source.secret_key_ref.key}


def _literal(value: str) -> str:
    """Escape a value: Kubernetes expands $(NAME) in the values of variables, and reads $$ as $."""
    return value.replace("$", "$$")


def _inject_container(spec: Spec, choices: Choices) -> Draft:
    return {
        "name": names.INJECT_CONTAINER,
        "image": choices.library_image,
        "imagePullPolicy": choices.pull_policy,
        "command": [
            *("python", "-m", "celeriac", "inject", names.LIBRARY_PATH),
            *(f"--python={word}" for word in spec.worker.python),
        ],
        "volumeMounts": [{"name": names.LIBRARY_VOLUME, "mountPath": names.LIBRARY_PATH}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {**RESTRICTED, "readOnlyRootFilesystem": True},
    }


def _library_volume() -> Draft:
    return {"name": names.LIBRARY_VOLUME, "emptyDir": {"sizeLimit": LIBRARY_SIZE}}


def _sentry_volumes(pool: CeleryWorkerPool) -> list[Draft]:
    sentry = pool.spec.sentry
    if sentry is None:
        return []
    if sentry.dsn_from is not None:
        name, key = sentry.dsn_from.secret_key_ref.name, sentry.dsn_from.secret_key_ref.key
    else:
        name, key = names.sentry_secret(pool), names.SENTRY_KEY
    return [_secret_volume(names.SENTRY_VOLUME, _Mounted(secret=name, key=key, path=names.SENTRY_KEY))]


def _slack_volumes(spec: Spec) -> list[Draft]:
    if spec.notifications is None:
        return []
    source = spec.notifications.slack.webhook_from.secret_key_ref
    return [_secret_volume(names.SLACK_VOLUME, _Mounted(secret=source.name, key=source.key, path=names.SLACK_KEY))]


@dataclass(frozen=True, kw_only=True)
class _Mounted:
    """One key of a Secret as a file."""

    secret: str
    key: str
    path: str


def _secret_volume(name: str, mounted: _Mounted) -> Draft:
    secret = {
        "secretName": mounted.secret,
        "items": [{"key": mounted.key, "path": mounted.path}],
        "defaultMode": READABLE_BY_ALL,
        # A missing DSN or webhook is reported in a condition and never prevents a worker from starting.
        "optional": True,
    }
    return {"name": name, "secret": secret}


def _patched(pool: CeleryWorkerPool, base: Draft) -> Draft:
    if pool.spec.template is None:
        return base
    metadata, spec = pool.spec.template.metadata, pool.spec.template.spec
    patch = {
        "metadata": metadata.model_dump(by_alias=True, exclude_none=True) if metadata else {},
        # Unchanged: null in a patch deletes.
        "spec": spec or {},
    }
    _check_values(patch["spec"])
    try:
        return strategic_merge.merge(base, patch)
    except strategic_merge.PatchError as error:
        raise TemplateError(str(error)) from None


def _check_values(patch: Any) -> None:
    """Check what neither the API server nor the operator could compute with."""
    waiting = [(patch, "", "")]
    while waiting:
        value, name, within = waiting.pop()
        if isinstance(value, Mapping):
            waiting.extend((each, str(key), name) for key, each in value.items())
        elif isinstance(value, list):
            waiting.extend((each, name, within) for each in value)
        elif value == bounded.CUT:
            raise TemplateError(f"template.spec is nested more than about {bounded.LEVELS - 4} levels deep")
        elif (name in quantity.FIELDS or within in quantity.MAPS) and quantity.is_huge(value):
            raise TemplateError(f"template.spec: {name} is a quantity of too many digits")


def _worker_of(template: Draft) -> Draft:
    for container in template["spec"].get("containers", []):
        if container["name"] == names.WORKER_CONTAINER:
            found: Draft = container
            return found
    raise TemplateError(f"template.spec.containers deletes the container {names.WORKER_CONTAINER}, which is the worker")


def _configure(pool: CeleryWorkerPool, template: Draft, worker: Draft) -> None:
    """Add what depends on the merged template: concurrency on the worker's cpu limit, and the injector's resources.

    The patch may have any shape. A wrong shape is left for the API server to refuse.
    """
    limits, requests = (_amounts(worker, kind) for kind in ("limits", "requests"))
    _check_cpu_limit(limits)
    variables = worker.get("env", [])
    _check_variables(pool, variables)
    document = contract.build(pool, cpu_limit=limits.get("cpu"))
    worker["env"] = [*variables, {"name": contract.CONFIG_VARIABLE, "value": _literal(document.line())}]
    # The same requests and limits as the worker: the pod requests no more than without the injector, a quota that
    # requires limits on every container is satisfied, and a Guaranteed pod stays Guaranteed.
    same = {kind: amounts for kind, amounts in (("limits", limits), ("requests", requests)) if amounts}
    for container in template["spec"].get("initContainers", []):
        if container["name"] == names.INJECT_CONTAINER and same:
            container.setdefault("resources", same)


def _amounts(container: Draft, kind: str) -> Draft:
    resources = container.get("resources")
    amounts = resources.get(kind) if isinstance(resources, Mapping) else None
    return {key: amounts[key] for key in ("cpu", "memory") if key in amounts} if isinstance(amounts, Mapping) else {}


def _check_cpu_limit(limits: Draft) -> None:
    try:
        quantity.parse(limits.get("cpu", 0))
    except ValueError as error:
        raise TemplateError(f"template.spec.containers: the cpu limit is {error}") from None


def _check_variables(pool: CeleryWorkerPool, variables: list[Draft]) -> None:
    ours = {variable["name"] for variable in _own_variables(pool.spec)}
    for variable in variables:
        name = str(variable["name"])
        if name.startswith(OWN_VARIABLES) and name not in ours:
            raise TemplateError(
                f"template.spec.containers sets {name}: names that start with {OWN_VARIABLES} are reserved for the "
                "operator: use the pool's fields"
            )


def _hash(template: Draft) -> str:
    text = json.dumps(template, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
