"""Every text that a person or a worker writes reaches the workers, the status and the events, whatever its characters.

The operator applies YAML, which forbids some characters that JSON and the API server accept.
"""

from __future__ import annotations

import json

import pytest
from tests.integration.operator.machine import Manifest, Place
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("operator")

# One of each kind of character that JSON, YAML, UTF-8 or UTF-16 treats in its own way.
KINDS = {
    "emoji": "\U0001f44b\U0001f3fd",
    "letters": "Grüße, 世界, שלום",
    "line separators": "a\x85b\u2028c\u2029d",
    "no-break space": "a\xa0b",
    "byte order mark": "\ufeffa",
    "not characters": "a\ufffe\uffff\U0001fffe\U0010ffff",
    "control characters": "\x01\x1b[31m\x7f\x9f",
    "white space": "\ta \r\n b",
    "YAML": "{a: [*b, &c !d '\"%@`|>#-?",
    "an escape": "\\ud83d\\udc4b \\n \\\\",
}
ALL = "".join(KINDS.values())


def variables(deployment: Manifest) -> dict[str, str]:
    (worker,) = deployment["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in worker["env"]}


def create(place: Place, **spec: object) -> None:
    """As JSON, of which an apply would be YAML here too."""
    place.api.create("CeleryWorkerPool", place.namespace, place.pool_manifest(**spec))


def test_a_variable_arrives_as_it_was_written(place: Place) -> None:
    wanted = {f"V{number}": text for number, text in enumerate(KINDS.values())}
    create(place, env=[{"name": name, "value": text} for name, text in wanted.items()])
    found = variables(place.await_deployment())
    assert {name: found[name] for name in wanted} == wanted


def test_a_queue_may_have_any_name(place: Place) -> None:
    names = [f"mail-{KINDS['emoji']}", f"mail-{KINDS['letters']}"]
    create(place, queues=names)
    contract = json.loads(variables(place.await_deployment())["CELERIAC_CONFIG"])
    assert contract["queues"] == names


def test_the_last_words_of_a_worker_show_in_the_status_and_do_not_stop_it(place: Place) -> None:
    place.pool()
    (pod,) = place.await_pods(1)
    said = f"RuntimeError: \U0001f4a5 cannot load {KINDS['letters']}{KINDS['not characters']}"
    ended = {"exitCode": 1, "reason": "Error", "message": said}
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off"}
    place.set_container(pod, restartCount=4, state={"waiting": waiting}, lastState={"terminated": ended})
    assert said in place.await_reason("Stalled", "True CrashLoop")["message"]
    event = eventually(
        lambda: [entry for entry in place.api.list("Event", place.namespace) if entry["reason"] == "CrashLoop"],
        what="event",
    )
    assert said in event[0]["message"]
    place.pool(replicas=2)
    place.await_deployment(lambda seen: seen["spec"]["replicas"] == 2)


def test_annotations_and_the_template_may_have_any_text(place: Place) -> None:
    manifest = place.pool_manifest(template={"metadata": {"annotations": {"note": ALL}}})
    manifest["metadata"]["annotations"] = {"celeriac.dev/restart": ALL}
    place.api.create("CeleryWorkerPool", place.namespace, manifest)
    annotations = place.await_deployment()["spec"]["template"]["metadata"]["annotations"]
    assert (annotations["note"], annotations["celeriac.dev/restart"]) == (ALL, ALL)
