"""What does a person need to see when a promise does not hold? Conditions, events, the end of the containers' logs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from demo.kubernetes import POOLS, CommandError, HttpError, Kube

LINES = 15  # of a log, and of events


def describe(kube: Kube) -> str:
    """Return the state of a namespace. Where something cannot be read, the text says why."""
    parts = (("pools", describe_pools), ("pods", describe_pods), ("newest events", describe_events))
    return "\n".join(f"{title}:\n{indent(attempt(partial(part, kube)))}" for title, part in parts)


def attempt(part: Callable[[], str]) -> str:
    """Return the result of `part`, or why it failed, so that the other parts are still shown."""
    try:
        return part().rstrip() or "none"
    except (CommandError, HttpError, OSError) as error:
        return f"cannot be read: {error}"


def indent(text: str) -> str:
    """Set a block of lines two columns in."""
    return "\n".join(f"  {line}" for line in text.splitlines())


def describe_pools(kube: Kube) -> str:
    """One line for each condition of each pool."""
    lines = []
    for pool in kube.read(f"{POOLS}/namespaces/{kube.namespace}/celeryworkerpools")["items"]:
        for each in pool.get("status", {}).get("conditions", []):
            says = f"{each['type']}={each['status']} {each.get('reason', '')}: {each.get('message', '')}"
            lines.append(f"{pool['metadata']['name']}: {says}")
    return "\n".join(lines)


def describe_pods(kube: Kube) -> str:
    """Each pod, and the last log lines of its containers that are not running well or were restarted."""
    lines = []
    for pod in kube.read(f"api/v1/namespaces/{kube.namespace}/pods")["items"]:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        leaving = " (leaving)" if "deletionTimestamp" in pod["metadata"] else ""
        lines.append(f"{name}: {status.get('phase')}{leaving}")
        states = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        lines += [indent(describe_container(kube, name, state)) for state in states if needs_a_look(state)]
    return "\n".join(lines)


def needs_a_look(state: dict[str, Any]) -> bool:
    """Whether a container is neither ready nor done, or was restarted."""
    is_done = state["state"].get("terminated", {}).get("exitCode") == 0
    return bool(state["restartCount"]) or not (state["ready"] or is_done)


def describe_container(kube: Kube, pod: str, state: dict[str, Any]) -> str:
    """A container's state and last words, also those of the one before it."""
    lines = [f"{state['name']}: {state['state']}, restarted {state['restartCount']} times"]
    for option in ("--previous", "--previous=false") if state["restartCount"] else ("--previous=false",):
        arguments = ("logs", pod, f"--container={state['name']}", f"--tail={LINES}", option)
        lines.append(indent(attempt(partial(kube.kubectl, *arguments))))
    return "\n".join(lines)


def describe_events(kube: Kube) -> str:
    """The newest events of the namespace."""
    text = kube.kubectl("get", "events", "--sort-by=.lastTimestamp", "--no-headers")
    return "\n".join(text.splitlines()[-LINES:])
