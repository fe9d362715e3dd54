"""Which services does a worker use? Broker, result backend, Sentry, Slack."""

from __future__ import annotations

from typing import Annotated

from celeriac_operator.resource.base import DataKey, Model, ObjectName, Rule, bound, rules

ONE_URL = Rule(cel="!(has(self.url) && has(self.urlFrom))", message="set url or urlFrom, not both")
IS_URL = Rule(
    cel=r"self.matches('^[A-Za-z][A-Za-z0-9+.-]*://\\S*$')",
    message="must be a URL without spaces, for example redis://redis:6379/0",
)
NO_PASSWORD = Rule(
    cel=r"!self.matches('://[^@]*:[^@]*@') && !self.matches('[?&]password=')",
    message="contains a password, which everyone who may read the pool could see: put the URL into a Secret and use "
    "urlFrom.secretKeyRef",
)
IS_DSN = Rule(
    cel=r"self.matches('^https?://[^\\s/@:]+(:[^\\s/@]+)?@[^\\s/@]+(/\\S*)?/[0-9]+$')",
    message="is not a Sentry DSN: it looks like https://<key>@<host>/<project number>",
)
IS_ENVIRONMENT = Rule(
    cel=r"self.matches('^[^\\s/]+$') && self != 'None'",
    message="is not a Sentry environment: no spaces, no '/', and not None",
)
IS_RELEASE = Rule(
    cel=r"self.matches('^[^\\n\\t/\\\\]+$')",
    message=r"is not a Sentry release: not empty, no line break, tab, '/' or '\'",
)

TRANSPORTS = (
    "amqp|amqps|azureservicebus|azurestoragequeues|confluentkafka|consul|etcd|filesystem|gcpubsub|kafka|"
    "librabbitmq|memory|mongodb|pgmq|pyamqp|pyro|qpid|redis|rediss|sentinel|slmq|sqla|sqlalchemy|sqs|zookeeper"
)
"""Schemes of kombu's transports, in lower case, as a part of a regular expression."""
BACKENDS = (
    "arangodb|azureblockblob|cache|cassandra|consul|cosmosdbsql|couchbase|couchdb|database|db|disabled|dynamodb|"
    "elasticsearch|file|gs|mongodb|redis|rediss|riak|rpc|s3|sentinel"
)
"""Schemes of Celery's result backends, likewise."""


def _has_scheme(schemes: str, message: str) -> Rule:
    """Accept a URL with one of these schemes, which a plus and a driver may follow, or with the path of a class."""
    return Rule(cel=f"self.matches('^(?i:({schemes})([+][^:/]*)?|[^:/]*[.][^:/]*)://')", message=message)


IS_BROKER = _has_scheme(
    TRANSPORTS,
    "is not the URL of a broker that Celery can use: it begins with redis://, rediss://, sentinel://, amqp://, "
    "amqps://, sqs:// or another of kombu's transports",
)
IS_BACKEND = _has_scheme(
    BACKENDS,
    "is not the URL of a result backend that Celery has: it begins with redis://, rediss://, db+postgresql://, "
    "rpc://, cache+memcached:// or another of Celery's backends",
)

BrokerUrl = Annotated[str, bound(IS_URL, IS_BROKER, NO_PASSWORD, max_length=2048)]
BackendUrl = Annotated[str, bound(IS_URL, IS_BACKEND, NO_PASSWORD, max_length=2048)]


class SecretKey(Model):
    """One value of one Secret."""

    name: ObjectName
    """Name of a Secret in the pool's namespace."""
    key: DataKey
    """Key of the Secret's data that holds the value."""


class UrlFrom(Model):
    """Source of a value."""

    secret_key_ref: SecretKey
    """The Secret and the key to read."""


class RetryBackoff(Model):
    """Waits between two attempts."""

    model_config = rules(
        Rule(cel="self.initial <= self.max", message="initial must be at most max", field_path=".initial")
    )

    initial: Annotated[int, bound(ge=1, le=3600)] = 1
    """Seconds before the first retry; the wait doubles with each retry, with jitter."""
    max: Annotated[int, bound(ge=1, le=3600)] = 30
    """The longest wait between two retries, in seconds."""


class Broker(Model):
    """The broker, and how a worker behaves while it is away."""

    model_config = rules(ONE_URL)

    url_from: UrlFrom | None = None
    """Source of the broker's URL. With neither urlFrom nor url the application's own broker_url applies."""
    url: BrokerUrl | None = None
    """The broker's URL in the clear, for example redis://redis:6379/0. Refused if it contains a password."""
    max_retries: Annotated[int, bound(ge=0, le=1_000_000)] | None = None
    """How often a worker retries to connect before it exits and is restarted; 0 exits at the first failure."""
    retry_backoff_seconds: RetryBackoff | None = None
    """Waits between two attempts to connect."""


class ResultBackend(Model):
    """The result backend."""

    model_config = rules(ONE_URL)

    url_from: UrlFrom | None = None
    """Source of the result backend's URL. With neither urlFrom nor url the application's own result_backend
    applies."""
    url: BackendUrl | None = None
    """The result backend's URL in the clear, for example redis://redis:6379/1. Refused if it contains a password."""
    expires_seconds: Annotated[int, bound(ge=0, le=10 * 365 * 24 * 3600)] | None = None
    """How long results are kept, in seconds; 0 keeps them for ever. Without it the application's result_expires
    applies."""


class Sentry(Model):
    """How failures are reported to Sentry."""

    model_config = rules(
        Rule(
            cel="!(has(self.dsn) && has(self.dsnFrom))",
            message="set dsnFrom, the Secret that holds the DSN, or dsn, not both",
        )
    )

    dsn_from: UrlFrom | None = None
    """Source of the DSN. It is mounted as a file, so a change takes effect without a restart. If it does not exist,
    workers run, and the condition SentryConfigured is False. With neither dsnFrom nor dsn the operator's DSN for all
    pools applies (sentry.secretName of the chart)."""
    dsn: Annotated[str, bound(IS_DSN, max_length=2048)] | None = None
    """The DSN. The operator stores it in a Secret that it owns, <pool>-sentry, from which the workers read it."""
    environment: Annotated[str, bound(IS_ENVIRONMENT, max_length=64)] | None = None
    """Sentry's environment, for example production."""
    release: Annotated[str, bound(IS_RELEASE, max_length=200)] | None = None
    """Sentry's release, for example shop@1.4."""
    traces_sample_rate: Annotated[float, bound(ge=0, le=1)] | None = None
    """Share of tasks that are traced, from 0 to 1."""
    send_default_pii: bool | None = None
    """Whether personally identifiable data, including task arguments, may be sent to Sentry."""


class Slack(Model):
    """The Slack channel that gets notifications."""

    webhook_from: UrlFrom
    """Source of the URL of Slack's incoming webhook. It is mounted as a file, so a change takes effect without a
    restart. If it does not exist, workers run, and the condition NotificationsConfigured is False."""


class Notifications(Model):
    """Where notifications of failures are sent."""

    slack: Slack
    """A Slack channel, or a channel of a service that accepts Slack's webhooks."""
