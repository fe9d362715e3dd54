"""What a person asks of a pool.

The nearest word wins: a setting that the worker reads has no default here, so that its absence leaves the application's
own Celery configuration in force. Defaults stand only where the operator itself decides.
"""

from __future__ import annotations

from typing import Annotated, Literal

from celeriac_operator.resource.autoscaling import Autoscaling
from celeriac_operator.resource.base import ATOMIC, SET, Model, Rule, bound, map_by, rules
from celeriac_operator.resource.pods import Disruption, EnvFrom, EnvVar, Resources, Rollout, Template
from celeriac_operator.resource.services import Broker, Notifications, ResultBackend, Sentry
from celeriac_operator.resource.worker import Delivery, Drain, Liveness, Logging, TimeLimits, Worker

IS_APP = Rule(
    cel=r"self.matches('^[^\\s:/-][^\\s:/]*(:[^\\s:/]+)?$')",
    message="must be what celery -A takes: a module, or module:attribute, for example shop.celery:app",
)
IS_IMAGE = Rule(
    cel=r"self.matches('^[^\\s]+$')",
    message="must be the name of a container image, for example registry.example/shop:1.4",
)
NAMES_A_QUEUE = Rule(cel="self.size() > 0", message="the name of a queue cannot be empty")
IS_QUEUE = Rule(
    cel=r"!self.matches('[,\\x00-\\x1f\\x7f]')",
    message="the name of a queue cannot contain a comma or a control character: Celery could not consume it",
)
SCALES_BY_QUEUES = Rule(
    cel="!has(self.autoscaling) || (has(self.queues) && self.queues.size() > 0)",
    message="autoscaling counts what waits in the pool's queues: name them in queues, since the application's own "
    "are not known to the operator",
    field_path=".autoscaling",
)
SCALES_BY_BROKER = Rule(
    cel="!has(self.autoscaling) || (has(self.broker) && (has(self.broker.url) || has(self.broker.urlFrom)))",
    message="autoscaling reads the queues at the broker: set broker.urlFrom or broker.url, since the application's own "
    "broker_url is not known to the operator",
    field_path=".autoscaling",
)
SCALES_BY_READABLE_BROKER = Rule(
    cel="!has(self.autoscaling) || !has(self.broker) || !has(self.broker.url) || "
    "self.broker.url.matches('^(rediss?|sentinel|amqps?|pyamqp|librabbitmq)://')",
    message="autoscaling can read the queues of redis://, rediss://, sentinel://, amqp:// and amqps:// brokers only: "
    "remove autoscaling, or use one of these",
    field_path=".autoscaling",
)
MANAGEMENT_OF_RABBITMQ = Rule(
    cel="!has(self.autoscaling) || !has(self.autoscaling.managementUrl) || !has(self.broker) || "
    "!has(self.broker.url) || self.broker.url.matches('^(amqps?|pyamqp|librabbitmq)://')",
    message="only RabbitMQ has a management API, and broker.url is that of another broker: remove managementUrl",
    field_path=".autoscaling.managementUrl",
)


class Spec(Model):
    """What you ask for."""

    model_config = rules(
        Rule(
            cel="!has(self.drain) || !has(self.drain.timeoutSeconds) || !has(self.timeLimits) || "
            "!has(self.timeLimits.hardSeconds) || self.drain.timeoutSeconds >= self.timeLimits.hardSeconds",
            message="drain.timeoutSeconds must be at least timeLimits.hardSeconds: a worker that leaves must be able "
            "to finish a task that runs as long as it may",
            field_path=".drain.timeoutSeconds",
        ),
        SCALES_BY_QUEUES,
        SCALES_BY_BROKER,
        SCALES_BY_READABLE_BROKER,
        MANAGEMENT_OF_RABBITMQ,
    )

    app: Annotated[str, bound(IS_APP, max_length=253)]
    """The Celery application, as celery -A takes it: a module, or module:attribute, for example shop.celery:app."""
    image: Annotated[str, bound(IS_IMAGE, max_length=1024)]
    """The container image with the application in it. Celery must be in it; Celeriac need not be."""
    inject: Literal["Always", "Never"] = "Always"
    """Always adds Celeriac's worker library to the pod by an init container; what the image brings itself wins. Never
    expects the library in the image."""
    replicas: Annotated[int, bound(ge=0, le=10_000)] = 1
    """How many workers there shall be. kubectl scale and autoscalers write this field; a manifest without it, applied
    server-side, leaves the number alone. With autoscaling it is the number to begin with: leave it out of manifests."""
    queues: (
        Annotated[
            tuple[Annotated[str, bound(NAMES_A_QUEUE, IS_QUEUE, max_length=255)], ...],
            bound(max_length=64, schema=SET),
        ]
        | None
    ) = None
    """The queues to consume, each named once. Without it the application's own queues."""
    worker: Worker = Worker()
    """How the Celery worker itself runs."""
    broker: Broker | None = None
    """Where messages come from, and how a worker behaves while the broker is away."""
    result_backend: ResultBackend | None = None
    """Where results go."""
    time_limits: TimeLimits | None = None
    """How long a task may run."""
    delivery: Delivery | None = None
    """What happens to a message when its worker dies."""
    liveness: Liveness = Liveness()
    """How a hung worker is noticed and restarted. A worker that merely has no broker is never restarted for it."""
    drain: Drain | None = None
    """How a worker leaves."""
    logging: Logging | None = None
    """What the workers write to their logs."""
    sentry: Sentry | None = None
    """Reports failures to Sentry. Without this section Celeriac leaves Sentry alone."""
    notifications: Notifications | None = None
    """Tells people of failed tasks, lost processes and dead letters: one message for a flood, at most one a minute from
    each worker."""
    autoscaling: Autoscaling | None = None
    """Sets replicas by what waits in the pool's queues. Needs queues and a broker URL. Without it, replicas is yours or
    another autoscaler's."""
    rollout: Rollout = Rollout()
    """How a change replaces the running workers."""
    disruption: Disruption | None = None
    """How many workers may be missing while nodes are drained. Without it, one at a time where replicas, or
    autoscaling.maxReplicas, is more than 1. Kubernetes evicts no pod that two budgets cover: set maxUnavailable to 100%
    before you make one of your own."""
    suspend: bool = False
    """True drains all workers and keeps the pool at zero, whatever replicas says."""
    resources: Resources | None = None
    """Cpu, memory and other resources of the worker's container."""
    env: Annotated[tuple[EnvVar, ...], bound(max_length=256, schema=map_by("name"))] = ()
    """Environment variables of the worker's container."""
    env_from: Annotated[tuple[EnvFrom, ...], bound(max_length=64, schema=ATOMIC)] = ()
    """Secrets and ConfigMaps whose keys become environment variables of the worker's container."""
    template: Template | None = None
    """Everything else about the worker pods, as a patch: labels, volumes, nodeSelector, tolerations, affinity,
    serviceAccountName, imagePullSecrets, securityContext, further containers."""
