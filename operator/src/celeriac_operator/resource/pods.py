"""What does a pool set for its pods? Rollout, disruption, resources, environment, and a patch for the rest."""

from __future__ import annotations

from typing import Annotated, Any

from celeriac_operator.resource.base import INT_OR_STRING, DataKey, Model, ObjectName, Quantity, Rule, bound, rules
from celeriac_operator.resource.pod_patch import POD_SPEC

IS_COUNT = Rule(
    cel="type(self) == int ? self >= 0 && self <= 10000 : self.matches('^(100|[1-9]?[0-9])%$')",
    message="must be a number of workers, or a percentage from 0% to 100%",
)
IS_VARIABLE = Rule(
    cel="self.matches('^[-._a-zA-Z][-._a-zA-Z0-9]*$')",
    message="must be the name of an environment variable: letters, digits, '_', '-' and '.', not starting with a digit",
)
NOT_OURS = Rule(
    cel="!self.startsWith('CELERIAC_')",
    message="names that start with CELERIAC_ are reserved for the operator: use the pool's fields",
)
NOT_OUR_LABEL = Rule(
    cel="!self.exists(key, key == 'app.kubernetes.io/name' || key.startsWith('celeriac.dev/'))",
    message="app.kubernetes.io/name and celeriac.dev/* select the pool's pods: use other labels",
)
NOT_OUR_ANNOTATION = Rule(
    cel="!self.exists(key, key.startsWith('celeriac.dev/'))",
    message="annotations that start with celeriac.dev/ are reserved for the operator: use another name",
)

Count = Annotated[int | str, bound(IS_COUNT, schema=INT_OR_STRING)]


class Rollout(Model):
    """How a change replaces the running workers."""

    model_config = rules(
        Rule(
            cel="!((type(self.maxSurge) == int ? self.maxSurge == 0 : self.maxSurge == '0%') && "
            "(type(self.maxUnavailable) == int ? self.maxUnavailable == 0 : self.maxUnavailable == '0%'))",
            message="maxSurge and maxUnavailable cannot both be 0: no worker could ever be replaced",
            field_path=".maxSurge",
        )
    )

    max_surge: Count = "25%"
    """How many workers may exist above the desired number while a change is rolled out: a number, or a percentage
    rounded up."""
    max_unavailable: Count = 0
    """How many of the desired workers may be missing while a change is rolled out: a number, or a percentage rounded
    down. With 0, an old worker is removed only after a new one is ready, so a broken image removes none."""


class Disruption(Model):
    """How many workers may be missing while nodes are drained: a PodDisruptionBudget with the pool's name."""

    model_config = rules(
        Rule(
            cel="has(self.maxUnavailable) != has(self.minAvailable)",
            message="set exactly one of maxUnavailable and minAvailable",
        )
    )

    max_unavailable: Count | None = None
    """How many workers may be missing at once because their nodes are drained: a number, or a percentage rounded up.
    With 0, no node that runs a worker can be drained; with 100%, no budget is created."""
    min_available: Count | None = None
    """How many workers must remain while nodes are drained: a number, or a percentage rounded up. With the number of
    replicas, or 100%, no node that runs a worker can be drained; with 0, no budget is created."""


Quantities = Annotated[dict[str, Quantity], bound(max_length=16)]


class Resources(Model):
    """Resources of the worker's container."""

    limits: Quantities | None = None
    """Limits of the worker's container, by resource, for example {cpu: 2, memory: 1Gi}."""
    requests: Quantities | None = None
    """Requests of the worker's container, by resource, for example {cpu: 500m, memory: 512Mi}."""


class FieldSelector(Model):
    """A field of the pod."""

    api_version: Annotated[str, bound(max_length=253)] | None = None
    """API version of fieldPath; default v1."""
    field_path: Annotated[str, bound(max_length=512)]
    """Path of the pod's field, for example metadata.labels['app']."""


class ResourceFieldSelector(Model):
    """A resource of a container."""

    container_name: Annotated[str, bound(max_length=63)] | None = None
    """Container whose resources are read; default: the worker's."""
    divisor: Quantity | None = None
    """Unit of the value; default 1."""
    resource: Annotated[str, bound(max_length=253)]
    """The resource to read, for example limits.cpu."""


class OptionalKey(Model):
    """One value of a Secret or ConfigMap."""

    name: ObjectName
    """Name of the object in the pool's namespace."""
    key: DataKey
    """Key of the object's data that holds the value."""
    optional: bool | None = None
    """Whether the worker may start if the object or the key does not exist."""


class EnvValueFrom(Model):
    """Source of a variable's value."""

    model_config = rules(
        Rule(
            cel="[has(self.fieldRef), has(self.resourceFieldRef), has(self.configMapKeyRef), "
            "has(self.secretKeyRef)].filter(given, given).size() == 1",
            message="set exactly one of fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef",
        )
    )

    field_ref: FieldSelector | None = None
    """A field of the pod."""
    resource_field_ref: ResourceFieldSelector | None = None
    """A resource limit or request of the container."""
    config_map_key_ref: OptionalKey | None = None
    """A key of a ConfigMap."""
    secret_key_ref: OptionalKey | None = None
    """A key of a Secret."""


class EnvVar(Model):
    """One environment variable."""

    model_config = rules(
        Rule(cel="!(has(self.value) && has(self.valueFrom))", message="set value or valueFrom, not both")
    )

    name: Annotated[str, bound(IS_VARIABLE, NOT_OURS, max_length=253)]
    """Name of the variable."""
    value: Annotated[str, bound(max_length=131_072)] | None = None
    """Value; $(NAME) refers to a variable that is listed before it."""
    value_from: EnvValueFrom | None = None
    """Source of the value."""


class OptionalObject(Model):
    """A Secret or ConfigMap as a whole."""

    name: ObjectName
    """Name of the object in the pool's namespace."""
    optional: bool | None = None
    """Whether the worker may start if the object does not exist."""


class EnvFrom(Model):
    """An object whose keys become variables."""

    model_config = rules(
        Rule(
            cel="has(self.configMapRef) != has(self.secretRef)",
            message="set exactly one of configMapRef and secretRef",
        )
    )

    prefix: Annotated[str, bound(max_length=253)] | None = None
    """Prefix of the names of the variables."""
    config_map_ref: OptionalObject | None = None
    """A ConfigMap whose keys become variables."""
    secret_ref: OptionalObject | None = None
    """A Secret whose keys become variables."""


KEYS = Rule(
    cel="self.all(key, key.size() <= 317 && "
    "key.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",
    message="a name is at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit; a "
    "domain and '/' may stand before it",
)
IS_LABEL_VALUE = Rule(
    cel="self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",
    message="must be letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
)

LabelValue = Annotated[str, bound(IS_LABEL_VALUE, max_length=63)]
Labels = Annotated[dict[str, LabelValue], bound(NOT_OUR_LABEL, KEYS, max_length=64)]
AnnotationValue = Annotated[str, bound(max_length=262_144)]
Annotations = Annotated[dict[str, AnnotationValue], bound(NOT_OUR_ANNOTATION, KEYS, max_length=64)]


class TemplateMetadata(Model):
    """Labels and annotations of the worker pods."""

    labels: Labels | None = None
    """Labels to add to the worker pods."""
    annotations: Annotations | None = None
    """Annotations to add to the worker pods."""


class Template(Model):
    """A patch of the worker pods."""

    metadata: TemplateMetadata | None = None
    """Labels and annotations of the worker pods."""
    spec: Annotated[dict[str, Any], bound(schema=POD_SPEC)] | None = None
    """A strategic merge patch of the worker pod's spec, as kubectl patch applies it: containers, volumes and similar
    lists are merged by name. The worker's container is named worker. If the API server refuses the result, the pool has
    the condition Stalled with reason InvalidTemplate."""
