"""(pure) Which condition types, reasons and events does the operator write, and what do they mean?

They are API: programs and alerts match them. The reference page is generated from the texts.
"""

from __future__ import annotations

import enum


class Meaningful(enum.StrEnum):
    """A value for programs, with a sentence that explains it to people."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Meaningful:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class Type(Meaningful):
    """Condition types, in their order in the status."""

    READY = ("Ready", "Every desired worker of the newest template is ready and consuming.")
    RECONCILING = (
        "Reconciling",
        "The operator or Kubernetes is changing the pool towards its spec. A pool that fails is Reconciling, with the "
        "cause as its reason, until it is Stalled. Absent otherwise.",
    )
    STALLED = (
        "Stalled",
        "The pool will not become ready until a person acts: it has been failing for the grace period of the operator "
        "(90 s by default), or the cause cannot go away by itself. The reason names the cause; the message quotes the "
        "container, the kubelet, the scheduler or the API server. Absent otherwise.",
    )
    BROKER_REACHABLE = (
        "BrokerReachable",
        "Workers can reach the broker. Derived from the workers: a worker is ready only while it consumes, one that "
        "tries to connect says why it cannot when the operator asks it, and one that gives up leaves the reason "
        "behind. Unknown while no worker has done any of that.",
    )
    WORKING = (
        "Working",
        "The workers get their work done. False: tasks fail, are stuck, or end in the dead-letter queue, or memory "
        "runs out, while the pool may well be Ready; `status.work` has the figures. Unknown while no worker replies to "
        "the operator. Absent while the pool has no worker.",
    )
    TIME_LIMITS_ENFORCED = (
        "TimeLimitsEnforced",
        "Tasks cannot exceed the pool's time limits; the reason says what enforces them. Absent if it sets none.",
    )
    SENTRY_CONFIGURED = (
        "SentryConfigured",
        "The Sentry DSN exists and is well-formed. Workers run in any case. Absent if the pool has no sentry section.",
    )
    NOTIFICATIONS_CONFIGURED = (
        "NotificationsConfigured",
        "The webhook exists and is a URL. Workers run in any case. Absent if the pool has no notifications section.",
    )
    SCALING_ACTIVE = (
        "ScalingActive",
        "The autoscaler has fresh figures and sets the number of workers. False: the number is not changed. Absent "
        "without `autoscaling`.",
    )


class Progress(Meaningful):
    """Reasons of Ready and Reconciling if nothing is wrong."""

    PENDING = ("Pending", "The operator has not handled the pool yet. If this lasts, the operator is not running.")
    READY = ("Ready", "Every desired worker is ready and consuming.")
    PROGRESSING = ("Progressing", "Workers are being started or replaced.")
    NOT_READY = (
        "WorkersNotReady",
        "Workers run but do not consume. Usually they cannot reach the broker; they keep retrying and are not "
        "restarted for it. See `kubectl logs` of a worker.",
    )
    NO_WORKERS = ("NoWorkers", "`replicas` is 0: the pool is ready, and no messages are consumed.")
    SCALED_TO_ZERO = (
        "ScaledToZero",
        "The autoscaler needs no worker: no message waits and none is in flight. The first message starts a worker.",
    )
    SUSPENDED = (
        "Suspended",
        "`suspend` is true: workers drain and stop, and none is started. Once they have stopped, the pool is ready.",
    )


class Cause(Meaningful):
    """Reasons of Stalled; Ready has the same reason."""

    NAME_CONFLICT = (
        "NameConflict",
        "An object with the name that the pool needs belongs to another owner. It is left alone: rename the pool, or "
        "remove the object.",
    )
    INVALID_SPEC = (
        "InvalidSpec",
        "The stored pool does not fit the resource definition of this operator's version: apply the CRD of this "
        "release, then the pool's manifest again.",
    )
    INVALID_TEMPLATE = (
        "InvalidTemplate",
        "The API server refuses the Deployment, or the patch in `template` cannot be merged. The message quotes "
        "the API server.",
    )
    FORBIDDEN = ("Forbidden", "The operator lacks a permission, which the message names. See the chart's RBAC.")
    ADMISSION_REFUSED = (
        "AdmissionRefused",
        "An admission policy or webhook of the cluster refuses the Deployment or its pods, for example Pod Security.",
    )
    QUOTA_EXCEEDED = ("QuotaExceeded", "The namespace's ResourceQuota has no room for the workers.")
    SECRET_NOT_FOUND = (
        "SecretNotFound",
        "A Secret that the workers need, or its key, does not exist. Workers start as soon as it is created.",
    )
    IMAGE_PULL_FAILED = (
        "ImagePullFailed",
        "The image cannot be pulled: it does not exist, its name is wrong, or the registry requires credentials "
        "(`template.spec.imagePullSecrets`).",
    )
    CONTAINER_CONFIG_ERROR = (
        "ContainerConfigError",
        "The kubelet cannot create the container: a ConfigMap is missing, the image runs as root, a mount is wrong.",
    )
    INJECTION_FAILED = ("InjectionFailed", "The init container that copies the worker library fails.")
    MISCONFIGURED = (
        "WorkerMisconfigured",
        "The worker exits at start because its settings are invalid or the application cannot be imported "
        "(exit code 78).",
    )
    BROKER_UNREACHABLE = (
        "BrokerUnreachable",
        "The worker gave up because the broker was away for `broker.maxRetries` attempts, or refuses the credentials "
        "(exit code 69). It is restarted with growing pauses.",
    )
    OUT_OF_MEMORY = ("OutOfMemory", "Workers are killed repeatedly for exceeding their memory limit.")
    CRASH_LOOP = ("CrashLoop", "Workers exit repeatedly; the message has their last words.")
    CONTESTED = (
        "Contested",
        "Somebody keeps changing an object of the pool. The operator corrects it after growing pauses, of up to five "
        "minutes, and the message names the difference. Exclude the object from the other program.",
    )
    ROLLOUT_PAUSED = (
        "RolloutPaused",
        "A change of the pool waits because the Deployment is paused. Continue with `kubectl rollout resume`.",
    )
    UNSCHEDULABLE = (
        "Unschedulable",
        "No node fits the workers; the message quotes the scheduler. A cluster autoscaler may still add a node.",
    )


class SentryReason(Meaningful):
    """Reasons of SentryConfigured."""

    CONFIGURED = ("Configured", "The DSN exists and is well-formed.")
    SECRET_NOT_FOUND = (
        "SecretNotFound",
        "The Secret, or its key, does not exist. Creating it needs no restart of workers.",
    )
    NO_DSN = ("NoDSN", "The pool sets no DSN, and the operator has none for all pools.")
    INVALID_DSN = ("InvalidDSN", "The value is not a Sentry DSN. Correcting it needs no restart of workers.")
    NAME_CONFLICT = ("NameConflict", "The Secret for the DSN has the name of a Secret of another owner.")
    UNREADABLE = (
        "SecretUnreadable",
        "The operator may not read the Secret, so it cannot check the value. Workers may be able to.",
    )


class NotificationsReason(Meaningful):
    """Reasons of NotificationsConfigured."""

    CONFIGURED = ("Configured", "The webhook exists and is a URL. The workers' logs show whether Slack accepts it.")
    SECRET_NOT_FOUND = (
        "SecretNotFound",
        "The Secret, or its key, does not exist. Creating it needs no restart of workers.",
    )
    INVALID_WEBHOOK = (
        "InvalidWebhook",
        "The value is not the URL of a webhook. Correcting it needs no restart of workers.",
    )
    UNREADABLE = (
        "SecretUnreadable",
        "The operator may not read the Secret, so it cannot check the value. Workers may be able to.",
    )


class BrokerReason(Meaningful):
    """Reasons of BrokerReachable."""

    CONNECTED = ("Connected", "At least one worker is connected and consumes.")
    CONNECTION_REFUSED = (
        "ConnectionRefused",
        "The broker does not respond to the workers, or refuses the connection or their requests. They keep trying, or "
        "have given up.",
    )
    AUTHENTICATION_FAILED = ("AuthenticationFailed", "The broker refuses the workers' credentials.")
    SECRET_NOT_FOUND = ("SecretNotFound", "The Secret with the broker's URL, or its key, does not exist.")
    NOT_KNOWN = (
        "NotKnown",
        "No worker consumes, and none has said why.",
    )


class WorkReason(Meaningful):
    """Reasons of Working; False with the first five, the most severe first."""

    ALL_SLOTS_STUCK = (
        "AllSlotsStuck",
        "Every slot of the pool runs a stuck task, so no message is consumed. A task is stuck if it is past its hard "
        "time limit, or if it has run for more than an hour without one.",
    )
    TASK_STUCK = ("TaskStuck", "A task is stuck; the message names the oldest one.")
    OUT_OF_MEMORY = (
        "OutOfMemory",
        "In the last 15 minutes a worker, or a process of it, was killed because it reached its memory limit.",
    )
    TASKS_FAIL = (
        "TasksFail",
        "Of the tasks that ended in the last 15 minutes at least three, and at least half, have failed. It ends when "
        "fewer than a quarter fail.",
    )
    DEAD_LETTERS = ("DeadLetters", "In the last 15 minutes messages were put into the dead-letter queue.")
    BUSY = ("Busy", "Tasks run, and nothing is wrong.")
    IDLE = ("Idle", "No task runs, and nothing is wrong.")
    NOT_KNOWN = (
        "NotKnown",
        "No worker replies to the operator: none has started, or a NetworkPolicy keeps the operator from the workers' "
        "port (`liveness.port`).",
    )


class Activity(Meaningful):
    """Reasons of ScalingActive, which is False for all but the first."""

    ACTIVE = ("Active", "The figures are fresh, and the autoscaler sets the number of workers.")
    BROKER_UNREACHABLE = (
        "BrokerUnreachable",
        "The broker does not respond to the operator: the number of workers is not changed. With a NetworkPolicy for "
        "the operator, check its egress (`networkPolicy.brokers` of the chart).",
    )
    AUTHENTICATION_FAILED = (
        "AuthenticationFailed",
        "The broker refuses the user or the password of the pool's broker URL. The Secret is read again regularly.",
    )
    FIGURES_STALE = ("FiguresStale", "The newest figures are too old: the number of workers is not changed.")
    FIGURES_REFUSED = (
        "FiguresRefused",
        "The broker refuses to show the pool's queues: its ACL forbids a key, or a key with a queue's name is not a "
        "list. The operator's log has the broker's message.",
    )
    SECRET_NOT_FOUND = ("SecretNotFound", "The Secret with the broker's URL, or its key, does not exist.")
    SECRET_UNREADABLE = ("SecretUnreadable", "The operator may not read the Secret with the broker's URL.")
    UNUSABLE_URL = (
        "UnusableURL",
        "The operator cannot read queues with the broker's URL: the kind of broker is not supported, the URL names a "
        "host or a file that the operator's chart does not allow (`brokers`), or it is malformed.",
    )
    CONTESTED = (
        "Contested",
        "Another writer keeps changing `replicas`: another autoscaler, or a manifest with the field. The autoscaler "
        "leaves the number alone for five minutes at a time.",
    )
    PAUSED = ("Paused", "The annotation `celeriac.dev/pause-scaling` pauses scaling in both directions.")
    DISABLED = ("Disabled", "The pool is suspended: `replicas` is not changed until it is resumed.")


class LimitReason(Meaningful):
    """Reasons of TimeLimitsEnforced."""

    BY_CELERY = ("ByCelery", "Celery ends the task: on prefork, and on gevent as far as the task yields.")
    BY_PROBE = (
        "ByLivenessProbe",
        "The liveness probe fails if a task exceeds its hard limit, and the container is restarted: on threads, solo "
        "and eventlet.",
    )
    APPLICATIONS_POOL = (
        "ApplicationsPool",
        "`worker.pool` is not set, so the application's own `worker_pool` decides. The hard limit is enforced in any "
        "case, the soft one on prefork.",
    )
    POOL_UNSUPPORTED = (
        "PoolUnsupported",
        "`softSeconds` has no effect: only prefork can raise SoftTimeLimitExceeded in a task.",
    )


class EventReason(Meaningful):
    """Events beside those that carry the reason of a condition."""

    REPAIRED = (
        "Repaired",
        "Somebody else changed or deleted an owned object; the operator has corrected it. The message names "
        "the manager.",
    )
    BROKER_BACK = ("BrokerReachable", "Workers reach the broker again after they could not.")
    CREATED = ("Created", "The operator has created the pool's Deployment.")
    ROLLING = ("RollingOut", "A change of the pool replaces its workers; the message says which.")
    ROLLED_OUT = ("RolledOut", "All workers have the newest pod template and are ready, for the first time.")
    SCALED = (
        "Scaled",
        "A change of the pool sets another number of workers: by hand, by a manifest, by another autoscaler, or "
        "because it is suspended. The message names the manager, as far as Kubernetes records it.",
    )
    RECOVERED = ("Recovered", "The pool is ready again after it was stalled.")
    SCALING_UP = ("ScalingUp", "The autoscaler has begun to add workers; the message says why.")
    SCALING_DOWN = ("ScalingDown", "The autoscaler has begun to remove workers; the message says why.")
    ROLLED = (
        "WorkersReplaced",
        "The workers are replaced although the pool did not change: a URL in a Secret or the operator's release did.",
    )
    CUT_SHORT = (
        "TasksCutShort",
        "A worker that was removed did not finish these tasks within `drain.timeoutSeconds`. They are delivered again, "
        "except those that were acknowledged before they ran.",
    )


_REASONS = frozenset(
    str(reason)
    for kind in (Progress, Cause, SentryReason, NotificationsReason, BrokerReason, Activity, LimitReason)
    for reason in kind
)


def is_known(type_: str, status: str, reason: str) -> bool:
    """Whether the operator writes such a condition."""
    return type_ in set(Type) and status in ("True", "False", "Unknown") and reason in _REASONS
