"""What is said of a pool beside whether it is ready: one table for each question."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.unit.operator.factories import (
    a_case,
    a_container,
    a_deployment,
    a_pod,
    a_pool,
    an_end,
    seen,
    some_facts,
)

from celeriac_operator.decide.plan import Conflict, Plan
from celeriac_operator.decide.secrets import ABSENT, UNREADABLE
from celeriac_operator.resource import CeleryWorkerPool
from celeriac_operator.status.conditions import broker, notifications, sentry, time_limits
from celeriac_operator.status.conditions.statement import Statement

DSN = {"sentry": {"dsnFrom": {"secretKeyRef": {"name": "sentry", "key": "dsn"}}}}


def shown(statement: Statement | None) -> tuple[str, str, str]:
    assert statement is not None
    return statement.status, statement.reason.value, statement.message


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(
            some_facts(dsn="https://k@sentry.example/1"),
            ("True", "Configured", "the DSN is in key dsn of Secret sentry"),
            id="the DSN is there",
        ),
        pytest.param(
            some_facts(dsn=" https://k@sentry.example/1\n"),
            ("True", "Configured", "the DSN is in key dsn of Secret sentry"),
            id="the DSN has white space around it",
        ),
        pytest.param(
            ABSENT,
            ("False", "SecretNotFound", "Secret sentry does not exist: failures are not reported"),
            id="the Secret does not exist",
        ),
        pytest.param(
            some_facts(other="x"),
            ("False", "SecretNotFound", "Secret sentry has no key dsn: failures are not reported"),
            id="the key does not exist",
        ),
        pytest.param(
            some_facts(dsn=""),
            ("False", "InvalidDSN", "key dsn of Secret sentry is empty: failures are not reported"),
            id="the value is empty",
        ),
        pytest.param(
            some_facts(dsn="sentry.example"),
            (
                "False",
                "InvalidDSN",
                "key dsn of Secret sentry is not a DSN of the form https://<key>@<host>/<project>: failures are "
                "not reported",
            ),
            id="the value is not a DSN",
        ),
        pytest.param(
            UNREADABLE,
            ("Unknown", "SecretUnreadable", "the operator may not read Secret sentry"),
            id="the operator may not read it",
        ),
    ],
)
def test_sentry_configured_when(facts: Any, expected: tuple[str, str, str]) -> None:
    what = seen(a_pool(**DSN), facts={"sentry": facts})
    assert shown(sentry.configured(a_case(what))) == expected


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        pytest.param("", "does not belong to Celeriac", id="nobody"),
        pytest.param("SealedSecret mail", "belongs to SealedSecret mail", id="another controller"),
    ],
)
def test_the_owner_of_a_foreign_secret_for_an_inline_dsn_is_named(owner: str, words: str) -> None:
    plan = Plan(conflicts=(Conflict(kind="Secret", name="emails-sentry", owner=owner),))
    pool = a_pool(sentry={"dsn": "https://k@sentry.example/1"})
    assert shown(sentry.configured(a_case(seen(pool), plan=plan))) == (
        "False",
        "NameConflict",
        f"a Secret named emails-sentry exists and {words}: use dsnFrom, or remove the Secret",
    )


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        pytest.param(
            "https://key@sentry.example/1",
            (
                "True",
                "Configured",
                "the DSN is in Secret emails-sentry: it is the operator's DSN for pools that set none",
            ),
            id="has a DSN",
        ),
        pytest.param(
            "",
            ("False", "NoDSN", "neither the pool nor the operator has a DSN: failures are not reported"),
            id="has none",
        ),
        pytest.param(
            "sentry.example",
            (
                "False",
                "InvalidDSN",
                "the operator's DSN for all pools is not a valid DSN: failures are not reported",
            ),
            id="has something else",
        ),
    ],
)
def test_sentry_configured_of_a_pool_that_names_no_dsn_when_the_operator(
    dsn: str, expected: tuple[str, str, str]
) -> None:
    what = dataclasses.replace(seen(a_pool(sentry={"environment": "x"})), default_dsn=dsn)
    assert shown(sentry.configured(a_case(what))) == expected


def test_a_pool_without_sentry_says_nothing_about_it() -> None:
    assert sentry.configured(a_case(seen(a_pool()))) is None


SLACK = {"notifications": {"slack": {"webhookFrom": {"secretKeyRef": {"name": "slack", "key": "url"}}}}}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(
            some_facts(url="https://hooks.slack.example/services/T0/B0/x\n"),
            ("True", "Configured", "the webhook is in key url of Secret slack"),
            id="the webhook is there",
        ),
        pytest.param(
            ABSENT,
            ("False", "SecretNotFound", "Secret slack does not exist: no notifications are sent"),
            id="the Secret does not exist",
        ),
        pytest.param(
            some_facts(other="x"),
            ("False", "SecretNotFound", "Secret slack has no key url: no notifications are sent"),
            id="the key does not exist",
        ),
        pytest.param(
            some_facts(url="T0/B0/x"),
            (
                "False",
                "InvalidWebhook",
                "key url of Secret slack is not the URL of a webhook: no notifications are sent",
            ),
            id="the value is not a URL",
        ),
        pytest.param(
            UNREADABLE,
            ("Unknown", "SecretUnreadable", "the operator may not read Secret slack"),
            id="the operator may not read it",
        ),
    ],
)
def test_notifications_configured_when(facts: Any, expected: tuple[str, str, str]) -> None:
    what = seen(a_pool(**SLACK), facts={"slack": facts})
    assert shown(notifications.configured(a_case(what))) == expected


def test_a_pool_without_notifications_says_nothing_about_them() -> None:
    assert notifications.configured(a_case(seen(a_pool()))) is None


BROKER = {"broker": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}}
REFUSED = "The broker redis://**@redis:6379/0 refuses the credentials (WRONGPASS): put the right password there"
AWAY = "The broker redis://redis:6379/0 could not be reached after 5 retries, giving up: Connection refused"
CONSUMES = a_container(ready=True, started=True, running_for=60)
TRIES = a_container(started=True, running_for=60)
OLDER = {"name": "emails-0", "hash": "older", "ready": True}


@pytest.mark.parametrize(
    ("pods", "facts", "expected"),
    [
        pytest.param(
            [], {}, ("Unknown", "NotKnown", "no worker is running, so nothing is known"), id="there is no worker"
        ),
        pytest.param(
            [([TRIES], {})],
            {},
            ("Unknown", "NotKnown", "no worker is connected, and none has reported why"),
            id="a worker runs and is not ready: it may start, or try again",
        ),
        pytest.param(
            [([CONSUMES], {"ready": True}), ([TRIES], {"name": "emails-2"})],
            {},
            ("True", "Connected", "workers consume"),
            id="one of two workers is ready",
        ),
        pytest.param(
            [([a_container(waiting=("CrashLoopBackOff", ""), ended_before=an_end(69, AWAY))], {})],
            {},
            ("False", "ConnectionRefused", f"pod emails-1 gave up: {AWAY}"),
            id="a worker gave up: nobody answers",
        ),
        pytest.param(
            [([a_container(started=True, running_for=30, ended_before=an_end(69, REFUSED))], {})],
            {},
            ("False", "AuthenticationFailed", f"pod emails-1 gave up: {REFUSED}"),
            id="a worker gave up for its credentials, and tries again",
        ),
        pytest.param(
            [([a_container(ended=an_end(69))], {})],
            {},
            ("False", "ConnectionRefused", "pod emails-1 gave up: it left no message"),
            id="a worker gave up without a word",
        ),
        pytest.param(
            [([a_container(started=True, running_for=50, ended_before=an_end(69, AWAY))], {"not_ready_for": 20})],
            {},
            ("Unknown", "NotKnown", "no worker is connected, and none has reported why"),
            id="a worker gave up once, has been ready since, and is not now",
        ),
        pytest.param(
            [([a_container(waiting=("CrashLoopBackOff", ""), ended_before=an_end(1, AWAY))], {})],
            {},
            ("Unknown", "NotKnown", "no worker is connected, and none has reported why"),
            id="a worker ended for another reason",
        ),
        pytest.param(
            [([TRIES], {}), ([CONSUMES], OLDER)],
            {},
            ("True", "Connected", "workers of the previous template consume"),
            id="a change rolls out, and the workers of before go on",
        ),
        pytest.param(
            [([CONSUMES], {**OLDER, "deleting": True})],
            {},
            ("Unknown", "NotKnown", "no worker is connected, and none has reported why"),
            id="the only worker that consumes is leaving",
        ),
        pytest.param(
            [],
            {"redis": ABSENT},
            (
                "False",
                "SecretNotFound",
                "Secret redis does not exist in namespace shop: the pool reads its key url",
            ),
            id="the Secret with the URL is missing",
        ),
        pytest.param(
            [([CONSUMES], {"ready": True})],
            {"redis": ABSENT},
            ("True", "Connected", "workers consume"),
            id="the Secret is gone, and workers still run",
        ),
    ],
)
def test_broker_reachable_when(pods: list[Any], facts: dict[str, Any], expected: tuple[str, str, str]) -> None:
    pool = a_pool(**BROKER)
    there = facts or {"redis": some_facts(url="redis://redis")}
    made = [a_pod(pool, *containers, **more) for containers, more in pods]
    what = seen(pool, deployment=a_deployment(pool), pods=made, facts=there)
    assert shown(broker.reachable(a_case(what))) == expected


def test_a_missing_secret_of_the_results_says_nothing_of_the_broker() -> None:
    pool = a_pool(resultBackend={"urlFrom": {"secretKeyRef": {"name": "results", "key": "url"}}})
    what = seen(pool, facts={"results": ABSENT})
    assert shown(broker.reachable(a_case(what)))[:2] == ("Unknown", "NotKnown")


def limited(pool: str | None, **limits: int) -> CeleryWorkerPool:
    return a_pool(worker={"pool": pool} if pool else {}, timeLimits=limits)


PROBE = "by the liveness probe, which restarts the container of a task that exceeds the limit"


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        pytest.param(
            limited("prefork", softSeconds=1, hardSeconds=2), ("True", "ByCelery", "by Celery"), id="both on prefork"
        ),
        pytest.param(limited("gevent", hardSeconds=2), ("True", "ByCelery", "by Celery"), id="a hard one on gevent"),
        *(
            pytest.param(limited(kind, hardSeconds=2), ("True", "ByLivenessProbe", PROBE), id=f"a hard one on {kind}")
            for kind in ("threads", "solo", "eventlet")
        ),
        pytest.param(
            limited("threads", softSeconds=1, hardSeconds=2),
            (
                "False",
                "PoolUnsupported",
                f"softSeconds has no effect on pool threads, only on prefork; hardSeconds is enforced {PROBE}",
            ),
            id="both on threads",
        ),
        pytest.param(
            limited("gevent", softSeconds=1),
            ("False", "PoolUnsupported", "softSeconds has no effect on pool gevent, only on prefork"),
            id="a soft one on gevent",
        ),
        pytest.param(
            limited(None, hardSeconds=2),
            (
                "True",
                "ApplicationsPool",
                f"by Celery, or where the application's worker_pool cannot, {PROBE}",
            ),
            id="a hard one on the application's own pool",
        ),
        pytest.param(
            limited(None, softSeconds=1, hardSeconds=2),
            (
                "Unknown",
                "ApplicationsPool",
                "worker.pool is not set: softSeconds has an effect if the application uses prefork, Celery's "
                "default, and none if its worker_pool is another pool",
            ),
            id="both on the application's own pool",
        ),
    ],
)
def test_time_limits_enforced_with(pool: CeleryWorkerPool, expected: tuple[str, str, str]) -> None:
    assert shown(time_limits.enforced(a_case(seen(pool)))) == expected


@pytest.mark.parametrize("spec", [pytest.param({}, id="no section"), pytest.param({"timeLimits": {}}, id="no limit")])
def test_a_pool_without_limits_says_nothing_about_them(spec: dict[str, Any]) -> None:
    assert time_limits.enforced(a_case(seen(a_pool(**spec)))) is None
