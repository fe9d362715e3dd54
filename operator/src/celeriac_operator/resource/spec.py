"""What can a user set in a pool?

The most specific setting wins. A setting that the worker reads has no default here: if it is not set, the application's
own Celery configuration applies. Only settings of the operator itself have defaults.
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
    message="autoscaling counts the messages in the pool's queues: name them in queues, because the operator does not "
    "know the application's own",
    field_path=".autoscaling",
)
SCALES_BY_BROKER = Rule(
    cel="!has(self.autoscaling) || (has(self.broker) && (has(self.broker.url) || has(self.broker.urlFrom)))",
    message="autoscaling reads the queues at the broker: set broker.urlFrom or broker.url, because the operator does "
    "not know the application's own broker_url",
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
    message="only RabbitMQ has a management API, but broker.url is the URL of another broker: remove managementUrl",
    field_path=".autoscaling.managementUrl",
)


class Spec(Model):
    """The desired state."""

    model_config = rules(
        Rule(
            cel="!has(self.drain) || !has(self.drain.timeoutSeconds) || !has(self.timeLimits) || "
            "!has(self.timeLimits.hardSeconds) || self.drain.timeoutSeconds >= self.timeLimits.hardSeconds",
            message="drain.timeoutSeconds must be at least timeLimits.hardSeconds: a worker that drains must be "
            "able to finish a task that runs up to its limit",
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
    """Always: an init container copies Celeriac's worker library into the pod; packages that the image contains take
    precedence. Never: the image must contain the library."""
    replicas: Annotated[int, bound(ge=0, le=10_000)] = 1
    """The number of workers. kubectl scale and autoscalers write this field; a manifest without it that is applied
    server-side does not change the number. With autoscaling it is the initial number: leave it out of manifests."""
    queues: (
        Annotated[
            tuple[Annotated[str, bound(NAMES_A_QUEUE, IS_QUEUE, max_length=255)], ...],
            bound(max_length=64, schema=SET),
        ]
        | None
    ) = None
    """The queues to consume, each named once. Default: the application's own queues."""
    worker: Worker = Worker()
    """Options of the Celery worker."""
    broker: Broker | None = None
    """The broker, and how a worker behaves while it is away."""
    result_backend: ResultBackend | None = None
    """The result backend."""
    time_limits: TimeLimits | None = None
    """How long a task may run."""
    delivery: Delivery | None = None
    """How messages are acknowledged and redelivered."""
    liveness: Liveness = Liveness()
    """How a hung worker is detected and restarted. A worker is never restarted only because its broker is away."""
    drain: Drain | None = None
    """How a worker that is removed finishes its work."""
    logging: Logging | None = None
    """What the workers write to their logs."""
    sentry: Sentry | None = None
    """Reports failures to Sentry. Without this section Celeriac does not configure Sentry."""
    notifications: Notifications | None = None
    """Sends notifications of failed tasks, lost processes and dead letters. Many failures are summarized in one
    message; each worker sends at most one message a minute."""
    autoscaling: Autoscaling | None = None
    """Sets replicas according to the messages in the pool's queues. Needs queues and a broker URL. Without this section
    you or another autoscaler set replicas."""
    rollout: Rollout = Rollout()
    """How a change replaces the running workers."""
    disruption: Disruption | None = None
    """How many workers may be missing while nodes are drained. Default: one at a time if replicas, or
    autoscaling.maxReplicas, is more than 1. Kubernetes evicts no pod that two budgets cover: set maxUnavailable to 100%
    before you create a budget of your own."""
    suspend: bool = False
    """If true, all workers drain and none is started, whatever replicas is."""
    resources: Resources | None = None
    """CPU, memory and other resources of the worker's container."""
    env: Annotated[tuple[EnvVar, ...], bound(max_length=256, schema=map_by("name"))] = ()
    """Environment variables of the worker's container."""
    env_from: Annotated[tuple[EnvFrom, ...], bound(max_length=64, schema=ATOMIC)] = ()
    """Secrets and ConfigMaps whose keys become environment variables of the worker's container."""
    template: Template | None = None
    """All other settings of the worker pods, as a patch: labels, volumes, nodeSelector, tolerations, affinity,
    serviceAccountName, imagePullSecrets, securityContext, further containers."""
