"""A pool that shrinks loses idle workers first: Kubernetes' own controllers choose, workers answer on the loopback."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.integration.operator.machine import Manifest, Operator, Place, audit, free_port
from tests.waiting import eventually

from celeriac_operator import labels
from localcluster.controlplane import ControlPlane

pytestmark = pytest.mark.timeout(120)

IDLE, BUSY = {"busy": 0, "prefetched": 0}, {"busy": 1, "prefetched": 0}
SILENT = None


class Workers:
    """Answers `/status` for pods, each at an address of its own on one port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.silence = threading.Event()
        self._servers: list[ThreadingHTTPServer] = []

    def add(self, answer: Mapping[str, int] | None) -> str:
        """The address of one more worker."""
        silence = self.silence

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if answer is SILENT:
                    silence.wait(30)
                    return
                body = json.dumps(answer).encode()
                self.send_response(200 if self.path == "/status" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        address = f"127.0.0.{len(self._servers) + 2}"
        server = ThreadingHTTPServer((address, self.port), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self._servers.append(server)
        return address

    def close(self) -> None:
        self.silence.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def workers() -> Iterator[Workers]:
    with contextlib.closing(Workers()) as it:
        yield it


def start(place: Place, workers: Workers, *answers: Mapping[str, int] | None) -> list[str]:
    """A pool whose ready workers answer so; the names of its pods."""
    place.pool(replicas=len(answers), liveness={"port": workers.port})
    pods = sorted(place.await_pods(len(answers)), key=name_of)
    for pod, answer in zip(pods, answers, strict=True):
        address = workers.add(answer)
        place.set_pod(pod, podIP=address, podIPs=[{"ip": address}])
    place.make_ready(pods)
    place.await_reason("Ready", "True Ready")
    return [name_of(pod) for pod in pods]


def events(place: Place, reason: str) -> list[str]:
    found = place.api.list("Event", place.namespace)
    return [event["message"] for event in found if event["reason"] == reason]


def name_of(pod: Manifest) -> str:
    return str(pod["metadata"]["name"])


def shrink(place: Place, workers: Workers, replicas: int) -> tuple[dict[str, int], float]:
    """Scale down as kubectl does. Who stays, with their costs; and how many seconds the Deployment took."""
    began = time.monotonic()
    place.api.merge("CeleryWorkerPool", place.namespace, "emails", {"spec": {"replicas": replicas}}, "scale")
    place.await_deployment(lambda seen: seen["spec"]["replicas"] == replicas)
    took = time.monotonic() - began
    staying = eventually(lambda: here(place), lambda seen: len(seen) == replicas, what="a smaller pool")
    return {name_of(pod): int(pod["metadata"]["annotations"].get(labels.DELETION_COST, 0)) for pod in staying}, took


def here(place: Place) -> list[Manifest]:
    return [pod for pod in place.pods() if "deletionTimestamp" not in pod["metadata"]]


def costs_written(control_plane: ControlPlane, place: Place) -> int:
    path = f"/api/v1/namespaces/{place.namespace}/pods/"
    return sum(each["verb"] == "patch" and each["requestURI"].startswith(path) for each in audit(control_plane))


def test_busy_workers_stay_and_costs_are_written_once(
    operator: Operator, control_plane: ControlPlane, place: Place, workers: Workers
) -> None:
    a, b, c, d, e = start(place, workers, IDLE, BUSY, IDLE, BUSY, IDLE)
    foreign = {"metadata": {"annotations": {labels.DELETION_COST: "2000000000"}}}
    place.api.merge("Pod", place.namespace, c, foreign)
    staying, took = shrink(place, workers, 3)
    assert staying.keys() == {b, c, d}, (
        "the idle ones go, except the one whose deletion cost another manager has raised"
    )
    assert staying[b] > 0
    assert staying[c] == 2_000_000_000
    assert took < 1
    assert operator.metric('celeriac_operator_shrink_answers_total{answer="idle"}') == 3
    assert "scaling down: 3 workers are idle, 2 busy, and 0 did not reply" in operator.text()
    eventually(lambda: costs_written(control_plane, place), lambda seen: seen == 5, what="the audit log")
    staying, _ = shrink(place, workers, 2)
    assert len(staying.keys() & {b, d}) == 1
    eventually(lambda: costs_written(control_plane, place), lambda seen: seen == 6, what="one more request")
    assert {a, e}.isdisjoint(staying), "only the foreign cost was asked for once more"


def test_a_worker_that_does_not_answer_counts_as_busy_and_holds_nothing_up(
    operator: Operator, place: Place, workers: Workers
) -> None:
    _, silent, _ = start(place, workers, IDLE, SILENT, IDLE)
    staying, took = shrink(place, workers, 1)
    assert staying.keys() == {silent}
    assert took < 2, "half a second for the answers, and what the machine needs besides"


def test_a_pool_that_rests_asks_nobody(
    operator: Operator, control_plane: ControlPlane, place: Place, workers: Workers
) -> None:
    start(place, workers, IDLE, SILENT)
    assert shrink(place, workers, 0)[0] == {}
    operator.idle()
    assert costs_written(control_plane, place) == 0


def test_what_a_worker_that_leaves_did_not_finish_is_told_once(
    operator: Operator, place: Place, workers: Workers
) -> None:
    (pod,) = start(place, workers, BUSY)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    words = "drain: 1 task cut short after 300 s: shop.pack[7f] handed back"
    end = {"exitCode": 0, "reason": "Completed", "message": words, "startedAt": now, "finishedAt": now}
    place.set_container({"metadata": {"name": pod}}, state={"terminated": end})
    place.api.delete("Pod", place.namespace, pod)
    eventually(lambda: events(place, "TasksCutShort"), timeout=10, what="an event")
    operator.idle()
    assert events(place, "TasksCutShort") == [f"pod {pod}: 1 task cut short after 300 s: shop.pack[7f] handed back"]
