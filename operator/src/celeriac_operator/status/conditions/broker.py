"""(pure) Can the broker be reached?

The operator does not connect to the broker for this. It relies on the workers: a worker is ready only while it is
connected and consumes, one that tries to connect says why it cannot when the operator asks it, and one that gives up
exits with code 69 and leaves a message. While no worker has said anything, the condition is Unknown.
"""

from __future__ import annotations

from celeriac_operator.decide import last_words, plan
from celeriac_operator.decide.observed import Pod, Termination
from celeriac_operator.decide.work import WorkerReport
from celeriac_operator.reasons import BrokerReason, Type
from celeriac_operator.status import stalled
from celeriac_operator.status.case import Case
from celeriac_operator.status.conditions.statement import Statement

AWAY_SECONDS = 2.0
"""A worker that has lost its connection for a shorter time is about to reconnect."""

REFUSALS = ("WRONGPASS", "NOAUTH", "invalid username-password", "invalid password", "ACCESS_REFUSED")
"""Parts of what Redis and RabbitMQ say when they refuse credentials."""

REFUSED_CREDENTIALS = "refuses the credentials"
"""Part of the worker library's last words; docs/reference/environment-contract.md promises it."""


def reachable(case: Case) -> Statement:
    """The condition BrokerReachable."""
    missing = plan.missing_broker_secret(case.seen)
    if any(_consumes(pod) and _away(case, pod) is None for pod in case.seen.newest_pods()):
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
    for pod in sorted(case.seen.newest_pods(), key=lambda pod: pod.name):
        away = _away(case, pod)
        if away is not None:
            refused = any(word in away.broker_error for word in REFUSALS)
            reason = BrokerReason.AUTHENTICATION_FAILED if refused else BrokerReason.CONNECTION_REFUSED
            error = last_words.excerpt(away.broker_error) or "its connection is lost"
            return Statement(Type.BROKER_REACHABLE, "False", reason, f"pod {pod.name} cannot reach the broker: {error}")
    if any(_consumes(pod) and not pod.deleting for pod in case.seen.pods):
        message = "workers of the previous template consume"
        return Statement(Type.BROKER_REACHABLE, "True", BrokerReason.CONNECTED, message)
    message = (
        "no worker is connected, and none has reported why"
        if case.seen.pods
        else "no worker is running, so nothing is known"
    )
    return Statement(Type.BROKER_REACHABLE, "Unknown", BrokerReason.NOT_KNOWN, message)


def _consumes(pod: Pod) -> bool:
    return pod.worker is not None and pod.worker.ready


def _away(case: Case, pod: Pod) -> WorkerReport | None:
    """The report of a worker that has not reached the broker for AWAY_SECONDS; None: it does not say that."""
    report = (case.seen.reports or {}).get(pod.uid)
    is_away = report is not None and report.away_seconds is not None and report.away_seconds >= AWAY_SECONDS
    return report if is_away else None


def _gave_up(pod: Pod) -> Termination | None:
    """How the worker ended when it gave up on the broker; None: it did not, or it has been ready since."""
    worker = pod.worker
    if worker is None or worker.last is None or worker.last.exit_code != stalled.BROKER_EXIT:
        return None
    was_ready_since = worker.running_since and pod.not_ready_since and pod.not_ready_since > worker.running_since
    return None if was_ready_since else worker.last
