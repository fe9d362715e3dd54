"""(pure) Can the broker be reached?

The operator does not connect to the broker for this. It relies on the workers: a worker is ready only while it is
connected and consumes, and one that gives up exits with code 69 and leaves a message. A worker that is merely not ready
may be starting or retrying, so the condition is Unknown. A worker that has lost the broker is found not ready after two
probes, so True may be ten seconds old.
"""

from __future__ import annotations

from celeriac_operator import names
from celeriac_operator.decide import last_words, plan
from celeriac_operator.decide.observed import Container, Pod, Termination
from celeriac_operator.reasons import BrokerReason, Type
from celeriac_operator.status import stalled
from celeriac_operator.status.case import Case
from celeriac_operator.status.conditions.statement import Statement

REFUSED_CREDENTIALS = "refuses the credentials"
"""Part of the worker library's last words; docs/reference/environment-contract.md promises it."""


def reachable(case: Case) -> Statement:
    """The condition BrokerReachable."""
    missing = plan.missing_broker_secret(case.seen)
    if any(_consumes(pod) for pod in case.seen.newest_pods()):
        return Statement(Type.BROKER_REACHABLE, "True", BrokerReason.CONNECTED, "workers consume")
    if missing:
        return Statement(Type.BROKER_REACHABLE, "False", BrokerReason.SECRET_NOT_FOUND, missing)
    for pod in sorted(case.seen.newest_pods(), key=lambda pod: pod.name):
        last = _gave_up(pod)
        if last is not None:
            refused = REFUSED_CREDENTIALS in last.message
            reason = BrokerReason.AUTHENTICATION_FAILED if refused else BrokerReason.CONNECTION_REFUSED
            message = last_words.excerpt(last.message) or "it left no message"
            return Statement(Type.BROKER_REACHABLE, "False", reason, f"pod {pod.name} gave up: {message}")
    if any(_consumes(pod) and not pod.deleting for pod in case.seen.pods):
        message = "workers of the previous template consume"
        return Statement(Type.BROKER_REACHABLE, "True", BrokerReason.CONNECTED, message)
    message = (
        "no worker is connected, and none has reported why"
        if case.seen.pods
        else "no worker is running, so nothing is known"
    )
    return Statement(Type.BROKER_REACHABLE, "Unknown", BrokerReason.NOT_KNOWN, message)


def _worker(pod: Pod) -> Container | None:
    return next((container for container in pod.containers if container.name == names.WORKER_CONTAINER), None)


def _consumes(pod: Pod) -> bool:
    worker = _worker(pod)
    return worker is not None and worker.ready


def _gave_up(pod: Pod) -> Termination | None:
    """How the worker ended when it gave up on the broker; None: it did not, or it has been ready since."""
    worker = _worker(pod)
    if worker is None or worker.last is None or worker.last.exit_code != stalled.BROKER_EXIT:
        return None
    was_ready_since = worker.running_since and pod.not_ready_since and pod.not_ready_since > worker.running_since
    return None if was_ready_since else worker.last
