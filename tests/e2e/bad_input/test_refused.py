"""The API server refuses a manifest that is wrong in itself, and says what to change."""

from __future__ import annotations

import json

import pytest

from demo.kubernetes import CommandError, HttpError, Kube

NEEDS = ()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param({"replica": 3}, "field not declared in schema", id="an unknown field"),
        pytest.param(
            {"timeLimits": {"softSeconds": 300, "hardSeconds": 300}},
            "softSeconds must be less than hardSeconds",
            id="a soft limit that is not below the hard one",
        ),
        pytest.param({"queues": [""]}, "the name of a queue cannot be empty", id="an empty queue name"),
        pytest.param({"sentry": {"dsn": "sentry.example/1"}}, "is not a Sentry DSN", id="a malformed inline DSN"),
        pytest.param(
            {"broker": {"url": "redis://:secret@redis/0"}}, "contains a password", id="a password in the clear"
        ),
        pytest.param({"app": ""}, "must be what celery -A takes", id="no application"),
        pytest.param(
            {"worker": {"extraArgs": ["--concurrency=3"]}}, "repeats what a field", id="a flag that a field sets"
        ),
    ],
)
def test_a_wrong_manifest_is_refused_with_a_sentence(kube: Kube, a_pool, spec, says):
    with pytest.raises(CommandError) as refused:
        kube.apply(a_pool("wrong", **spec))
    assert says in refused.value.said
    with pytest.raises(HttpError, match="404"):
        kube.pool("wrong")


def test_plain_kubectl_apply_refuses_an_unknown_field_too(kube: Kube, a_pool):
    with pytest.raises(CommandError, match=r'unknown field "spec\.replica"'):
        kube.kubectl("apply", "-f", "-", stdin=json.dumps(a_pool("wrong", replica=3)))


def test_a_refused_change_leaves_the_pool_as_it_was(kube: Kube, a_pool):
    kube.apply(a_pool("kept", replicas=0))
    with pytest.raises(CommandError):
        kube.apply(a_pool("kept", replicas=0, queues=[""]))
    assert kube.pool("kept")["spec"]["queues"] == ["reports"]
