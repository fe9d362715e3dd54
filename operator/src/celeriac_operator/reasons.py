"""(pure) Every condition type, reason and event that the operator writes, each with its meaning.

They are API: programs and alerts match on them. The reference page is generated from the texts beside them.
"""

from __future__ import annotations

import enum


class Meaningful(enum.StrEnum):
    """A word for programs, with the sentence that explains it to people."""

    meaning: str

    def __new__(cls, word: str, meaning: str) -> Meaningful:
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member


class Type(Meaningful):
    """Condition types, in the order in which they stand in the status."""

    READY = ("Ready", "Every desired worker of the newest template is ready and consuming.")
    RECONCILING = ("Reconciling", "Work is under way: the pool moves towards what you asked for. Absent otherwise.")
    STALLED = (
        "Stalled",
        "The pool will not become ready without a person: the reason names the cause, the message quotes who knows it "
        "best, the container, the kubelet, the scheduler or the API server. Absent otherwise.",
    )
    BROKER_REACHABLE = (
        "BrokerReachable",
        "Workers can talk to the broker. It is their word: a worker is ready only while it consumes, and one that "
        "gives up says why. Unknown while no worker runs or none has got that far.",
    )
    TIME_LIMITS_ENFORCED = (
        "TimeLimitsEnforced",
        "Tasks cannot outlast the pool's time limits; the reason says by whom. Absent when the pool sets none.",
    )
    SENTRY_CONFIGURED = (
        "SentryConfigured",
        "The Sentry DSN is there and well-formed. Workers run in any case. Absent when the pool has no sentry section.",
    )
    NOTIFICATIONS_CONFIGURED = (
        "NotificationsConfigured",
        "The webhook of the channel is there and is a URL. Workers run in any case. Absent when the pool has no "
        "notifications section.",
    )
    SCALING_ACTIVE = (
        "ScalingActive",
        "The autoscaler has fresh figures and sets the number of workers. False: the number stays as it is. Absent "
        "without `autoscaling`.",
    )


class Progress(Meaningful):
    """Reasons of Ready and Reconciling while nothing is wrong."""

    PENDING = ("Pending", "The operator has not looked at the pool yet. If this lasts, the operator does not run.")
    READY = ("Ready", "Every desired worker is ready and consuming.")
    PROGRESSING = ("Progressing", "Workers are being started or replaced.")
    NOT_READY = (
        "WorkersNotReady",
        "Workers run but do not consume. Most often they cannot reach the broker; they try again by themselves, and "
        "are not restarted for it. `kubectl logs` of the worker says more.",
    )
    NO_WORKERS = ("NoWorkers", "`replicas` is 0: nothing is consumed.")
    SCALED_TO_ZERO = (
        "ScaledToZero",
        "The autoscaler needs no worker: nothing waits and nothing is in flight. The first message starts one.",
    )
    SUSPENDED = ("Suspended", "`suspend` is true: workers drain and leave, and none is started.")


class Cause(Meaningful):
    """Reasons of Stalled; Ready carries the same one."""

    NAME_CONFLICT = (
        "NameConflict",
        "An object of the name that the pool needs belongs to somebody else. It is left alone: rename the pool, or "
        "remove the object.",
    )
    INVALID_SPEC = (
        "InvalidSpec",
        "The stored pool does not fit this operator's version of the resource: apply the CRD of this release and the "
        "pool's manifest again.",
    )
    INVALID_TEMPLATE = (
        "InvalidTemplate",
        "The API server refuses the Deployment, or the patch in `template` cannot be merged. The message is its "
        "sentence.",
    )
    FORBIDDEN = ("Forbidden", "The operator lacks a permission; the message names it. See the chart's RBAC.")
    ADMISSION_REFUSED = (
        "AdmissionRefused",
        "An admission policy or webhook of the cluster refuses the Deployment or its pods, for example Pod Security.",
    )
    QUOTA_EXCEEDED = ("QuotaExceeded", "The namespace's ResourceQuota has no room for the workers.")
    SECRET_NOT_FOUND = (
        "SecretNotFound",
        "A Secret that the workers need, or a key of it, does not exist. Workers start as soon as it does.",
    )
    IMAGE_PULL_FAILED = (
        "ImagePullFailed",
        "The image cannot be pulled: it does not exist, its name is wrong, or the registry wants credentials "
        "(`template.spec.imagePullSecrets`).",
    )
    CONTAINER_CONFIG_ERROR = (
        "ContainerConfigError",
        "The kubelet cannot create the container: a ConfigMap is missing, the image runs as root, a mount is wrong.",
    )
    INJECTION_FAILED = ("InjectionFailed", "The init container that brings the worker library fails.")
    MISCONFIGURED = (
        "WorkerMisconfigured",
        "The worker gives up at start because its settings or the application cannot be used, for example an app that "
        "cannot be imported (exit code 78).",
    )
    BROKER_UNREACHABLE = (
        "BrokerUnreachable",
        "The worker gives up because the broker stayed away for `broker.maxRetries` attempts, or refuses the "
        "credentials (exit code 69). It is started again with growing pauses.",
    )
    OUT_OF_MEMORY = ("OutOfMemory", "Workers are killed again and again for exceeding their memory limit.")
    CRASH_LOOP = ("CrashLoop", "Workers end again and again; the message has their last words.")
    UNSCHEDULABLE = (
        "Unschedulable",
        "No node takes the workers; the message is the scheduler's. A cluster autoscaler may still add one.",
    )


class SentryReason(Meaningful):
    """Reasons of SentryConfigured."""

    CONFIGURED = ("Configured", "The DSN is there and well-formed.")
    SECRET_NOT_FOUND = ("SecretNotFound", "The Secret, or the key in it, does not exist. No worker needs a restart.")
    NO_DSN = ("NoDSN", "The pool names no DSN, and the operator has none for all pools.")
    INVALID_DSN = ("InvalidDSN", "The value is not a Sentry DSN. No worker needs a restart.")
    NAME_CONFLICT = ("NameConflict", "The Secret for the inline DSN has a name that somebody else's Secret has.")
    UNREADABLE = ("SecretUnreadable", "The operator may not read the Secret, so it cannot tell. Workers may.")


class NotificationsReason(Meaningful):
    """Reasons of NotificationsConfigured."""

    CONFIGURED = ("Configured", "The webhook is there and is a URL; whether Slack takes it, the workers' logs tell.")
    SECRET_NOT_FOUND = ("SecretNotFound", "The Secret, or the key in it, does not exist. No worker needs a restart.")
    INVALID_WEBHOOK = ("InvalidWebhook", "The value is not the URL of a webhook. No worker needs a restart.")
    UNREADABLE = ("SecretUnreadable", "The operator may not read the Secret, so it cannot tell. Workers may.")


class BrokerReason(Meaningful):
    """Reasons of BrokerReachable."""

    CONNECTED = ("Connected", "At least one worker is connected and consumes.")
    CONNECTION_REFUSED = (
        "ConnectionRefused",
        "Workers have given up: nothing answers at the broker's address, or it refuses the connection.",
    )
    AUTHENTICATION_FAILED = ("AuthenticationFailed", "Workers have given up: the broker refuses their credentials.")
    SECRET_NOT_FOUND = ("SecretNotFound", "The Secret with the broker's URL, or the key in it, does not exist.")
    NOT_KNOWN = (
        "NotKnown",
        "There is no worker, or none that consumes, and none has given up. While the broker is away workers try again, "
        "and Ready says `WorkersNotReady`.",
    )


class Activity(Meaningful):
    """Reasons of ScalingActive; it is False for all but the first."""

    ACTIVE = ("Active", "The figures are fresh and decide the number of workers.")
    BROKER_UNREACHABLE = (
        "BrokerUnreachable",
        "The broker does not answer the operator: the number of workers stays as it is. With a NetworkPolicy for the "
        "operator, look at its egress (`networkPolicy.brokers` of the chart).",
    )
    AUTHENTICATION_FAILED = (
        "AuthenticationFailed",
        "The broker does not take the user or the password of the pool's broker URL. The Secret is read again.",
    )
    FIGURES_STALE = ("FiguresStale", "The newest figures are too old: the number of workers stays as it is.")
    FIGURES_REFUSED = (
        "FiguresRefused",
        "The broker does not show the pool's queues: its ACL forbids a key, or something else has a queue's name. The "
        "operator's log has the broker's sentence.",
    )
    SECRET_NOT_FOUND = ("SecretNotFound", "The Secret with the broker's URL, or the key in it, does not exist.")
    SECRET_UNREADABLE = ("SecretUnreadable", "The operator may not read the Secret with the broker's URL.")
    UNUSABLE_URL = (
        "UnusableURL",
        "By the broker's URL the operator cannot read queues: another kind of broker, a file that the operator does "
        "not have, a mistake in it.",
    )
    CONTESTED = (
        "Contested",
        "Somebody else writes `replicas` again and again, another autoscaler or a manifest with the field. The "
        "autoscaler leaves the number alone for five minutes at a time.",
    )
    PAUSED = ("Paused", "The annotation `celeriac.dev/pause-scaling` holds the number in both directions.")
    DISABLED = ("Disabled", "The pool is suspended: `replicas` stays as it is until it is resumed.")


class LimitReason(Meaningful):
    """Reasons of TimeLimitsEnforced."""

    BY_CELERY = ("ByCelery", "Celery ends the task: prefork, and gevent as far as the task lets others run.")
    BY_PROBE = (
        "ByLivenessProbe",
        "The liveness probe fails when a task runs past its hard limit, and the container is restarted: threads, solo, "
        "eventlet.",
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

    REPAIRED = ("Repaired", "An owned object was changed or deleted by somebody else, and was put right.")
    RECOVERED = ("Recovered", "The pool is ready again after it was stalled.")
    SCALING_UP = ("ScalingUp", "The autoscaler has begun to ask for more workers; the message says why.")
    SCALING_DOWN = ("ScalingDown", "The autoscaler has begun to ask for fewer workers; the message says why.")
    ROLLED = (
        "WorkersReplaced",
        "The worker pods changed though the pool did not: a Secret with a URL, or the operator's release.",
    )
    CUT_SHORT = (
        "TasksCutShort",
        "A worker that left did not finish these tasks within `drain.timeoutSeconds`. They are delivered again, but "
        "for those that were acknowledged before they ran.",
    )
