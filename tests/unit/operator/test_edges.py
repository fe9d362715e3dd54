"""Settings, secrets, refusals, logs: small rooms with one table each."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from celeriac_operator import logs, settings
from celeriac_operator.decide import secrets
from celeriac_operator.decide.secrets import Dsn
from celeriac_operator.exceptions import ApiError
from celeriac_operator.passes.default_dsn import DefaultDsn
from celeriac_operator.reasons import Cause
from celeriac_operator.settings import SettingsError
from celeriac_operator.status import refusals

IMAGE = {"CELERIAC_WORKER_IMAGE": "w:1"}


def test_settings_are_read() -> None:
    found = settings.read(
        {
            **IMAGE,
            "CELERIAC_WORKER_IMAGE_PULL_POLICY": "Always",
            "CELERIAC_WORKERS_UPGRADE": "Immediately",
            "CELERIAC_WATCH_NAMESPACES": "a, b,,a",
            "CELERIAC_HEALTH_PORT": "1",
            "CELERIAC_METRICS_PORT": "0",
            "CELERIAC_LOG_LEVEL": "DEBUG",
            "CELERIAC_LOG_FORMAT": "JSON",
            "CELERIAC_SENTRY_DSN_FILE": "/sentry/dsn",
            "CELERIAC_BROKER_HOSTS": "redis.shop, *.example.com,,redis.shop",
            "CELERIAC_BROKER_TLS_FILES": "/tls/ca.crt",
            "CELERIAC_RECONCILE_WORKERS": "2",
            "CELERIAC_STALLED_AFTER_SECONDS": "30",
            "CELERIAC_RESYNC_SECONDS": "60",
        }
    )
    assert found == settings.Settings(
        worker_image="w:1",
        worker_image_pull_policy="Always",
        workers_upgrade="Immediately",
        watch_namespaces=("a", "b"),
        health_port=1,
        metrics_port=0,
        log_level="DEBUG",
        log_format="JSON",
        sentry_dsn_file="/sentry/dsn",
        broker_hosts=("redis.shop", "*.example.com"),
        broker_tls_files=frozenset({"/tls/ca.crt"}),
        reconcile_workers=2,
        stalled_after_seconds=30,
        resync_seconds=60,
    )


def test_settings_have_defaults() -> None:
    assert settings.read(IMAGE) == settings.Settings(worker_image="w:1")


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        pytest.param(
            {},
            "CELERIAC_WORKER_IMAGE is not set: name the celeriac-worker image of this release",
            id="no worker image",
        ),
        pytest.param(
            {**IMAGE, "CELERIAC_WORKERS_UPGRADE": "now"},
            "CELERIAC_WORKERS_UPGRADE is 'now': it can be OnNextChange or Immediately",
            id="a word that is none of the choices",
        ),
        pytest.param(
            {**IMAGE, "CELERIAC_HEALTH_PORT": "http"},
            "CELERIAC_HEALTH_PORT is 'http': it must be a number from 1 to 65535",
            id="a port that is not a number",
        ),
        pytest.param(
            {**IMAGE, "CELERIAC_RESYNC_SECONDS": "0"},
            "CELERIAC_RESYNC_SECONDS is '0': it must be a number from 1 to 86400",
            id="a number that is too small",
        ),
    ],
)
def test_settings_refuse(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.read(environment)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        pytest.param("https://key@o1.ingest.sentry.io/42", Dsn.WELL_FORMED, id="Sentry's own"),
        pytest.param("http://key@localhost:8969/1", Dsn.WELL_FORMED, id="one of a local server"),
        pytest.param("https://key:secret@host/path/7", Dsn.WELL_FORMED, id="an old one with a secret and a path"),
        pytest.param("https://key@host/7\n", Dsn.WELL_FORMED, id="a line break at its end"),
        pytest.param("", Dsn.EMPTY, id="nothing"),
        pytest.param(" \n", Dsn.EMPTY, id="white space"),
        pytest.param("https://host/7", Dsn.MALFORMED, id="without a key"),
        pytest.param("https://key@host/", Dsn.MALFORMED, id="without a project"),
        pytest.param("key@host/7", Dsn.MALFORMED, id="without a scheme"),
        pytest.param("\x00\xff", Dsn.MALFORMED, id="bytes"),
    ],
)
def test_a_dsn_is_judged(value: str, verdict: Dsn) -> None:
    assert secrets.judge_dsn(value.encode("latin-1")) is verdict


def test_a_digest_says_nothing_without_the_secrets_uid() -> None:
    assert secrets.digest("one", b"redis://r") != secrets.digest("other", b"redis://r")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        pytest.param(
            ApiError(422, "Invalid", 'Deployment.apps "x" is invalid: spec.template.spec: nonsense'),
            Cause.INVALID_TEMPLATE,
            id="a template that is invalid",
        ),
        pytest.param(
            ApiError(
                500, "Unknown", "failed to create typed patch object (x): .spec.foo: field not declared in schema"
            ),
            Cause.INVALID_TEMPLATE,
            id="a field that does not exist",
        ),
        pytest.param(
            ApiError(
                403, "Forbidden", 'deployments.apps "x" is forbidden: User "op" cannot patch resource "deployments"'
            ),
            Cause.FORBIDDEN,
            id="a permission that the operator lacks",
        ),
        pytest.param(
            ApiError(403, "Forbidden", 'deployments.apps "x" is forbidden: exceeded quota: team'),
            Cause.QUOTA_EXCEEDED,
            id="a quota",
        ),
        pytest.param(
            ApiError(400, "BadRequest", 'admission webhook "w" denied the request: no latest tags'),
            Cause.ADMISSION_REFUSED,
            id="a webhook",
        ),
        pytest.param(
            ApiError(
                422, "Invalid", "deployments.apps x is forbidden: ValidatingAdmissionPolicy 'p' denied request: no"
            ),
            Cause.ADMISSION_REFUSED,
            id="an admission policy",
        ),
        pytest.param(
            ApiError(403, "Forbidden", "unable to create new content in namespace shop because it is being terminated"),
            Cause.ADMISSION_REFUSED,
            id="a namespace that ends",
        ),
        pytest.param(ApiError(409, "Conflict", "the object has been modified"), None, id="not: a conflict"),
        pytest.param(ApiError(500, "InternalError", "etcd"), None, id="not: an error inside"),
        pytest.param(ApiError(429, "TooManyRequests", "later"), None, id="not: too many requests"),
        pytest.param(ApiError(0, "NoAnswer", "timeout"), None, id="not: no answer"),
    ],
)
def test_an_answer_of_the_api_server(error: ApiError, cause: Cause | None) -> None:
    found = refusals.read(error)
    assert (found.cause if found else None) == cause


def a_record(**extra: str) -> logging.LogRecord:
    record = logging.LogRecord("celeriac_operator.x", logging.INFO, "x.py", 1, "made %s", ("it",), None)
    record.__dict__.update(extra)
    return record


def test_a_text_line_names_the_pool() -> None:
    formatter = logs.TextFormatter("%(levelname)s %(about)s%(message)s")
    assert formatter.format(a_record(pool="shop/emails")) == "INFO [shop/emails] made it"
    assert formatter.format(a_record()) == "INFO made it"


def test_a_json_line_has_stable_keys() -> None:
    record = a_record(pool="shop/emails", reason="CrashLoop")
    found = json.loads(logs.JsonFormatter().format(record))
    assert sorted(found) == ["level", "logger", "message", "pool", "reason", "time"]
    assert (found["message"], found["pool"], found["reason"]) == ("made it", "shop/emails", "CrashLoop")


def test_the_dsn_of_all_pools_follows_its_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "dsn"
    default = DefaultDsn(str(path))
    assert (default.read(), default.read()) == ("", "")
    assert [record.getMessage() for record in caplog.records] == [
        f"the Sentry DSN for all pools cannot be read from {path}: No such file or directory"
    ]
    path.write_text("https://key@sentry.example/1\n")
    assert default.read() == "https://key@sentry.example/1"
    path.write_bytes(b"hunter2\xff")
    assert default.read() == ""
    assert "hunter2" not in caplog.text


def test_without_a_file_there_is_no_dsn_of_all_pools(caplog: pytest.LogCaptureFixture) -> None:
    assert DefaultDsn("").read() == ""
    assert not caplog.records
