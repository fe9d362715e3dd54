"""What is a CeleryWorkerPool? pydantic models, from which the CRD and its reference are generated.

Other rooms import this package, not its modules. `kubectl explain` prints a field's docstring, so it is written for the
person who writes the YAML file. The API server checks the rules. The models check types and bounds again when the
operator reads an object, which matters only for objects stored under an older CRD.
"""

from celeriac_operator.resource.autoscaling import Autoscaling, ScaleDown, Target
from celeriac_operator.resource.base import Model, Rule
from celeriac_operator.resource.pods import Disruption, EnvVar, Resources, Rollout
from celeriac_operator.resource.pool import GROUP, KIND, MAX_NAME_LENGTH, PLURAL, VERSION, CeleryWorkerPool, Metadata
from celeriac_operator.resource.services import Broker, Notifications, ResultBackend, SecretKey, Sentry, Slack, UrlFrom
from celeriac_operator.resource.spec import Spec
from celeriac_operator.resource.status import (
    Condition,
    LastStalled,
    Problem,
    QueueBacklog,
    RunningTask,
    Scaling,
    ScalingDecision,
    Status,
    Work,
)
from celeriac_operator.resource.worker import Delivery, Drain, Liveness, Logging, Pool, TimeLimits, Worker

__all__ = [
    "GROUP",
    "KIND",
    "MAX_NAME_LENGTH",
    "PLURAL",
    "VERSION",
    "Autoscaling",
    "Broker",
    "CeleryWorkerPool",
    "Condition",
    "Delivery",
    "Disruption",
    "Drain",
    "EnvVar",
    "LastStalled",
    "Liveness",
    "Logging",
    "Metadata",
    "Model",
    "Notifications",
    "Pool",
    "Problem",
    "QueueBacklog",
    "Resources",
    "ResultBackend",
    "Rollout",
    "Rule",
    "RunningTask",
    "ScaleDown",
    "Scaling",
    "ScalingDecision",
    "SecretKey",
    "Sentry",
    "Slack",
    "Spec",
    "Status",
    "Target",
    "TimeLimits",
    "UrlFrom",
    "Work",
    "Worker",
]
