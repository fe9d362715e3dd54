"""One row for each thing that goes wrong, and for each that only looks so."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.factories import (
    a_case,
    a_container,
    a_deployment,
    a_pod,
    a_pool,
    ago,
    an_end,
    counts,
    seen,
    some_facts,
)

from celeriac_operator.decide import last_words
from celeriac_operator.decide.plan import Conflict, Plan
from celeriac_operator.decide.secrets import ABSENT, UNREADABLE
from celeriac_operator.reasons import Cause
from celeriac_operator.status import stalled
from celeriac_operator.status.case import Finding, Refusal

BROKER = {"broker": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}}
NO_IMAGE = 'failed to pull and unpack image "shop:1": not found'
IMPORT_ERROR = "the application shop.celery:app cannot be imported: No module named 'shop'"


def replica_failure(message: str) -> dict[str, Any]:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    return {**counts(0, 0), "conditions": [condition]}


def find(*containers: dict[str, Any], later: float = 0, **pod: Any) -> Finding | None:
    pool = a_pool()
    what = seen(pool, deployment=a_deployment(pool, status=counts(1, 0)), pods=[a_pod(pool, *containers, **pod)])
    return stalled.failing(a_case(what, later=later))


@pytest.mark.parametrize(
    ("container", "cause", "message"),
    [
        pytest.param(
            a_container(waiting=("ErrImagePull", NO_IMAGE)),
            Cause.IMAGE_PULL_FAILED,
            f"pod emails-1, container worker: {NO_IMAGE}",
            id="the image does not exist",
        ),
        pytest.param(
            a_container(waiting=("ImagePullBackOff", f'Back-off pulling image "shop:1": ErrImagePull: {NO_IMAGE}')),
            Cause.IMAGE_PULL_FAILED,
            f"pod emails-1, container worker: {NO_IMAGE}",
            id="the image does not exist, in back-off: the same words",
        ),
        pytest.param(
            a_container(waiting=("InvalidImageName", 'couldn\'t parse image name "Shop"')),
            Cause.IMAGE_PULL_FAILED,
            'pod emails-1, container worker: couldn\'t parse image name "Shop"',
            id="the image's name is invalid",
        ),
        pytest.param(
            a_container(waiting=("CreateContainerConfigError", 'secret "django" not found')),
            Cause.SECRET_NOT_FOUND,
            'pod emails-1, container worker: secret "django" not found',
            id="a Secret of env does not exist",
        ),
        pytest.param(
            a_container(waiting=("CreateContainerConfigError", "couldn't find key url in Secret shop/redis")),
            Cause.SECRET_NOT_FOUND,
            "pod emails-1, container worker: couldn't find key url in Secret shop/redis",
            id="a key of a Secret does not exist",
        ),
        pytest.param(
            a_container(
                waiting=(
                    "CreateContainerConfigError",
                    "container has runAsNonRoot and image will run as root (pod: x, container: worker)",
                )
            ),
            Cause.CONTAINER_CONFIG_ERROR,
            "pod emails-1, container worker: container has runAsNonRoot and image will run as root (pod: x, container: "
            "worker); give template.spec.securityContext a runAsUser",
            id="the image runs as root",
        ),
        pytest.param(
            a_container(waiting=("CrashLoopBackOff", ""), restarts=3, ended_before=an_end(78, IMPORT_ERROR)),
            Cause.MISCONFIGURED,
            f"pod emails-1, container worker, exit code 78: {IMPORT_ERROR}",
            id="the app cannot be imported",
        ),
        pytest.param(
            a_container(running_for=2, restarts=3, ended_before=an_end(78, IMPORT_ERROR)),
            Cause.MISCONFIGURED,
            f"pod emails-1, container worker, exit code 78: {IMPORT_ERROR}",
            id="the app cannot be imported, between two attempts",
        ),
        pytest.param(
            a_container(waiting=("CrashLoopBackOff", ""), ended_before=an_end(69, "redis refused the password")),
            Cause.BROKER_UNREACHABLE,
            "pod emails-1, container worker, exit code 69: redis refused the password",
            id="the broker's password is wrong",
        ),
        pytest.param(
            a_container(
                waiting=("CrashLoopBackOff", ""),
                ended_before=an_end(1, "Traceback\n  File x\nValueError: redis://:hunter2@redis/0 is bad\n\n"),
            ),
            Cause.CRASH_LOOP,
            "pod emails-1, container worker, exit code 1: ValueError: redis://**@redis/0 is bad",
            id="it crashes: the last line of its log, without passwords",
        ),
        pytest.param(
            a_container(waiting=("CrashLoopBackOff", ""), ended_before=an_end(0, "", reason="Completed")),
            Cause.CRASH_LOOP,
            "pod emails-1, container worker, exit code 0: it left no message; see kubectl logs --previous",
            id="it ends at once and says nothing",
        ),
        pytest.param(
            a_container(running_for=1, restarts=4, ended_before=an_end(137, reason="OOMKilled")),
            Cause.OUT_OF_MEMORY,
            "pod emails-1, container worker, exit code 137: it left no message; see kubectl logs --previous",
            id="it is killed for its memory again and again",
        ),
        pytest.param(
            a_container(
                name="celeriac-inject", waiting=("CrashLoopBackOff", ""), ended_before=an_end(1, "no space left")
            ),
            Cause.INJECTION_FAILED,
            "pod emails-1, container celeriac-inject, exit code 1: no space left",
            id="the library cannot be injected",
        ),
        pytest.param(
            a_container(name="proxy", waiting=("CrashLoopBackOff", ""), ended_before=an_end(78, "bad flag")),
            Cause.CRASH_LOOP,
            "pod emails-1, container proxy, exit code 78: bad flag",
            id="another container crashes: its exit codes mean nothing to us",
        ),
    ],
)
def test_stalled_when(container: dict[str, Any], cause: Cause, message: str) -> None:
    assert find(container) == Finding(cause=cause, message=message)


@pytest.mark.parametrize(
    "container",
    [
        pytest.param(a_container(waiting=("ContainerCreating", "")), id="it is being created"),
        pytest.param(a_container(waiting=("PodInitializing", "")), id="the library is being injected"),
        pytest.param(a_container(running_for=5), id="it starts"),
        pytest.param(a_container(running_for=5, started=True), id="it connects"),
        pytest.param(a_container(running_for=5, restarts=1, ended_before=an_end(1, "x")), id="it crashed once"),
        pytest.param(
            a_container(running_for=1, restarts=5, ended_before=an_end(137, ran=60)),
            id="it was restarted by its liveness probe, not for the first time",
        ),
        pytest.param(
            a_container(running_for=1, restarts=9, ended_before=an_end(69, "broker away", ran=3000)),
            id="it gave up on the broker after a long time",
        ),
        pytest.param(
            a_container(running_for=600, ready=True, started=True, restarts=9, ended_before=an_end(78, "x")),
            id="it crashed often, and works now",
        ),
        pytest.param(a_container(ended=an_end(1, "x")), id="it has just ended for the first time"),
    ],
)
def test_not_stalled_when(container: dict[str, Any]) -> None:
    assert find(container) is None


def test_a_pod_without_a_node_is_given_a_moment() -> None:
    message = "0/3 nodes are available: 3 Insufficient cpu."
    assert find(unschedulable=(message, 1)) is None
    found = find(unschedulable=(message, 1), later=stalled.UNSCHEDULABLE_SECONDS)
    assert found == Finding(cause=Cause.UNSCHEDULABLE, message=f"pod emails-1: {message}")


def test_says_when_a_pod_without_a_node_will_count() -> None:
    pool = a_pool()
    pods = [a_pod(pool, unschedulable=("full", 2))]
    what = seen(pool, deployment=a_deployment(pool), pods=pods)
    assert stalled.recheck_seconds(a_case(what)) == stalled.UNSCHEDULABLE_SECONDS - 2
    assert stalled.recheck_seconds(a_case(what, later=60)) is None


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        pytest.param(
            'pods "emails-x" is forbidden: exceeded quota: team, requested: pods=1, used: pods=3, limited: pods=3',
            Cause.QUOTA_EXCEEDED,
            id="the quota is used up",
        ),
        pytest.param(
            'pods "emails-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
            Cause.ADMISSION_REFUSED,
            id="Pod Security refuses the pods",
        ),
    ],
)
def test_stalled_when_no_pod_can_be_made_because(message: str, cause: Cause) -> None:
    pool = a_pool()
    what = seen(pool, deployment=a_deployment(pool, status=replica_failure(message)))
    assert stalled.failing(a_case(what)) == Finding(cause=cause, message=message)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        pytest.param(
            {"redis": ABSENT},
            "Secret redis does not exist in namespace shop: the pool reads its key url",
            id="the broker's Secret does not exist",
        ),
        pytest.param({"redis": some_facts(other="x")}, "Secret redis has no key url", id="the Secret has no such key"),
        pytest.param({"redis": UNREADABLE}, None, id="not: the Secret may not be read"),
        pytest.param({"redis": some_facts(url="redis://r")}, None, id="not: the Secret is there"),
    ],
)
def test_stalled_when_secret(facts: dict[str, Any], message: str | None) -> None:
    pool = a_pool(**BROKER)
    found = stalled.failing(a_case(seen(pool, deployment=a_deployment(pool), facts=facts)))
    expected = Finding(cause=Cause.SECRET_NOT_FOUND, message=message) if message else None
    assert found == expected


@pytest.mark.parametrize(
    ("plan", "refusal", "cause", "message"),
    [
        pytest.param(
            Plan(conflicts=(Conflict(kind="Deployment", name="emails", owner="Rollout x"),)),
            None,
            Cause.NAME_CONFLICT,
            "a Deployment named emails exists and belongs to Rollout x: rename the pool or remove the Deployment",
            id="a Deployment of that name belongs to somebody",
        ),
        pytest.param(
            Plan(conflicts=(Conflict(kind="Deployment", name="emails", owner=""),)),
            None,
            Cause.NAME_CONFLICT,
            "a Deployment named emails exists and does not belong to Celeriac: rename the pool or remove the "
            "Deployment",
            id="a Deployment of that name is nobody's",
        ),
        pytest.param(
            Plan(template_error="template.spec.volumes must be a list"),
            None,
            Cause.INVALID_TEMPLATE,
            "template.spec.volumes must be a list",
            id="the template cannot be merged",
        ),
        pytest.param(
            Plan(held="Secret redis has no key url"),
            None,
            Cause.SECRET_NOT_FOUND,
            "Secret redis has no key url",
            id="nothing can be made without a Secret",
        ),
        pytest.param(
            Plan(),
            Refusal(cause=Cause.INVALID_TEMPLATE, message="Deployment.apps is invalid: spec.template: nonsense"),
            Cause.INVALID_TEMPLATE,
            "Deployment.apps is invalid: spec.template: nonsense",
            id="the API server refuses the Deployment",
        ),
    ],
)
def test_refused_when(plan: Plan, refusal: Refusal | None, cause: Cause, message: str) -> None:
    found = stalled.refused(a_case(seen(a_pool()), plan=plan, refusal=refusal))
    assert found == Finding(cause=cause, message=message)


def test_a_foreign_secret_for_the_dsn_stalls_nothing() -> None:
    plan = Plan(conflicts=(Conflict(kind="Secret", name="emails-sentry", owner=""),))
    assert stalled.refused(a_case(seen(a_pool()), plan=plan)) is None


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param({"hash": "older"}, id="of an older template"),
        pytest.param({"deleting": True}, id="that is leaving"),
    ],
)
def test_a_pod_does_not_speak(pod: dict[str, Any]) -> None:
    assert find(a_container(waiting=("ImagePullBackOff", "x")), **pod) is None


def test_the_same_pod_speaks_in_every_pass() -> None:
    pool = a_pool()
    pods = [a_pod(pool, a_container(waiting=("ErrImagePull", name)), name=name) for name in ("b", "a", "c")]
    what = seen(pool, deployment=a_deployment(pool), pods=pods)
    found = stalled.failing(a_case(what))
    assert found is not None
    assert found.message.startswith("pod a,")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("redis://:pw@r/0", "redis://**@r/0", id="a password"),
        pytest.param("amqp://me:p@ss/w@r//", "amqp://**@r//", id="a password with an at sign and a slash"),
        pytest.param("https://key@sentry.example/1", "https://**@sentry.example/1", id="the key of a DSN"),
        pytest.param("redis://r/0?password=pw&x=1", "redis://r/0?password=**&x=1", id="a password in the query"),
        pytest.param("http://r/a@b and me@example.com", "http://r/a@b and me@example.com", id="no secret"),
    ],
)
def test_last_words_keep_to_themselves(text: str, shown: str) -> None:
    assert last_words.excerpt(text) == shown


def test_last_words_are_cut() -> None:
    assert len(last_words.excerpt("x" * 5000)) == last_words.SHOWN_CHARACTERS + 1
    assert last_words.excerpt("") == ""


def test_times_are_read() -> None:
    assert ago(0) == "2026-05-04T12:00:00Z"
