"""Where secrets go, and where they never do: logs, events, status, metrics, objects that anybody may read."""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path

import pytest
from tests.integration.operator.machine import PATHS, Api, Operator, Place, running_operator
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)  # many waits, on a busy machine too

PLANTED = {
    "broker": "redis://worker:planted-broker@redis:6379/0",
    "results": "redis://:planted-results@redis:6379/1",
    "named": "https://planted-named@sentry.example/1",
    "inline": "https://planted-inline@sentry.example/2",
    "malformed": "planted-malformed",
    "webhook": "https://hooks.slack.example/services/planted-webhook",
    "default": "https://planted-default@sentry.example/3",
}


def read_dsn(place: Place, pool: str) -> str:
    """What the operator's Secret of the pool holds; empty: there is none."""
    secret = place.get("Secret", f"{pool}-sentry")
    return base64.b64decode(secret["data"]["dsn"]).decode() if secret else ""


def test_the_dsn_of_all_pools_reaches_those_that_name_none_and_follows_its_file_without_a_restart(
    place: Place, kubeconfig: Path, tmp_path: Path
) -> None:
    dsn = tmp_path / "dsn"
    dsn.write_text(f"{PLANTED['default']}\n")
    with running_operator(
        kubeconfig, tmp_path, CELERIAC_SENTRY_DSN_FILE=str(dsn), CELERIAC_RESYNC_SECONDS="1"
    ) as operator:
        place.pool("asks", sentry={"environment": "x"})
        place.pool("silent")
        place.pool("own", sentry={"dsn": PLANTED["inline"]})
        place.await_reason("SentryConfigured", "True Configured", "asks")
        place.await_reason("SentryConfigured", "True Configured", "own")
        place.await_reason("Ready", "False Progressing", "silent")
        found = {name: read_dsn(place, name) for name in ("asks", "silent", "own")}
        assert found == {"asks": PLANTED["default"], "silent": "", "own": PLANTED["inline"]}
        assert "SentryConfigured" not in place.conditions("silent")
        before = place.await_deployment(name="asks")["spec"]
        dsn.write_text("https://other@sentry.example/4")
        eventually(
            lambda: read_dsn(place, "asks"), lambda seen: seen == "https://other@sentry.example/4", what="other DSN"
        )
        dsn.unlink()
        place.await_reason("SentryConfigured", "False NoDSN", "asks")
        eventually(lambda: read_dsn(place, "asks"), lambda seen: not seen, what="end of the Secret")
        assert place.await_deployment(name="asks")["spec"] == before
        assert "planted" not in operator.text()


def readable(api: Api, place: Place, operator: Operator) -> dict[str, str]:
    """Everything that people who may not read Secrets may read, by what it is; the specs of pools left out."""
    pools = api.list("CeleryWorkerPool", place.namespace)
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.metrics_port}/metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    return {
        "log": operator.text(),
        "metrics": metrics,
        "status": json.dumps([pool["status"] for pool in pools]),
        **{
            kind: json.dumps(api.list(kind, place.namespace))
            for kind in PATHS
            if kind not in ("CeleryWorkerPool", "Secret")
        },
    }


def test_planted_secrets_are_nowhere_but_in_secrets(api: Api, place: Place, kubeconfig: Path, tmp_path: Path) -> None:
    """Through good and bad times: used, rotated, malformed, quoted by workers, refused by the API server, deleted."""
    dsn = tmp_path / "dsn"
    dsn.write_text(PLANTED["default"])
    broker = {"broker": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "broker"}}}}
    results = {"resultBackend": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "results"}}}}
    with running_operator(
        kubeconfig, tmp_path, CELERIAC_SENTRY_DSN_FILE=str(dsn), CELERIAC_LOG_FORMAT="JSON", CELERIAC_RESYNC_SECONDS="2"
    ) as operator:
        place.secret("redis", broker=PLANTED["broker"], results=PLANTED["results"])
        place.secret("sentry", dsn=PLANTED["named"])
        place.secret("slack", url=PLANTED["webhook"])
        place.pool("good", **broker, **results, sentry={"dsnFrom": {"secretKeyRef": {"name": "sentry", "key": "dsn"}}})
        webhook = {"webhookFrom": {"secretKeyRef": {"name": "slack", "key": "url"}}}
        place.pool("inline", sentry={"dsn": PLANTED["inline"]}, notifications={"slack": webhook})
        place.pool("default", sentry={})
        place.pool("bad", **broker, sentry={"dsn": PLANTED["inline"]}, template={"spec": {"nodeSelectors": {}}})
        for name in ("good", "inline", "default"):
            place.await_reason("SentryConfigured", "True Configured", name)
        place.await_reason("NotificationsConfigured", "True Configured", "inline")
        place.await_reason("Stalled", "True InvalidTemplate", "bad")
        eventually(place.pods, lambda seen: len(seen) == 3, what="pods")
        (pod,) = (each for each in place.pods() if each["metadata"]["labels"]["celeriac.dev/pool"] == "good")
        words = (
            f"cannot reach {PLANTED['broker']} or {PLANTED['results']}?password=planted-query, told {PLANTED['named']}"
        )
        ended = {"exitCode": 1, "reason": "Error", "message": f"{words}\n{words}"}
        waiting = {"reason": "CrashLoopBackOff", "message": words}
        place.set_container(pod, restartCount=3, state={"waiting": waiting}, lastState={"terminated": ended})
        place.await_reason("Stalled", "True CrashLoop", "good")
        api.merge("Pod", place.namespace, pod["metadata"]["name"], {"status": {"containerStatuses": []}}, "status")
        place.secret("redis", broker=f"{PLANTED['broker']}2", results=PLANTED["results"])
        place.secret("sentry", dsn=PLANTED["malformed"])
        place.await_reason("SentryConfigured", "False InvalidDSN", "good")
        place.secret("slack", url="planted-no-url")
        place.await_reason("NotificationsConfigured", "False InvalidWebhook", "inline")
        api.delete("Secret", place.namespace, "redis")
        api.delete("Secret", place.namespace, "inline-sentry")
        eventually(lambda: place.get("Secret", "inline-sentry"), what="Secret again")
        place.pool("good", image="shop:2", **broker, **results)
        place.await_reason("Stalled", "True SecretNotFound", "good")
        operator.idle()
        records = [json.loads(line) for line in operator.text().splitlines() if line.startswith("{")]
        assert {"WARNING", f"{place.namespace}/good", "CrashLoop"} in [
            {record["level"], record.get("pool"), record.get("reason")} for record in records
        ]
        found = readable(api, place, operator)
    assert {where: text.count("planted-") for where, text in found.items() if "planted-" in text} == {}
    assert "cannot reach redis://**@redis:6379/0" in found["Event"]
