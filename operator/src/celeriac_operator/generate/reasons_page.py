"""What do the reference pages of conditions, events, labels and annotations contain? They are built from the code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from celeriac_operator import labels
from celeriac_operator.reasons import (
    Activity,
    BrokerReason,
    Cause,
    EventReason,
    LimitReason,
    Meaningful,
    NotificationsReason,
    Progress,
    SentryReason,
    Type,
    WorkReason,
)

CONDITIONS_HEAD = """\
# Conditions and events

`kubectl describe cwp <name>` shows them; `kubectl get cwp` shows the reason of `Ready` in the column `STATUS`, with
`-o wide` its message too. They follow kstatus, so `kubectl wait --for=condition=Ready cwp/<name>` and the health checks
of GitOps tools work. Types and reasons are API, so programs may match them. Messages are for people and may change.
"""

LABELS_HEAD = """\
# Labels and annotations
"""


def conditions() -> str:
    """Build the page of condition types, reasons and events."""
    parts = [
        CONDITIONS_HEAD,
        *_section("Types", "type", Type),
        *_section("Reasons of Ready and Reconciling", "reason", Progress),
        *_section("Reasons of Stalled, and of Ready while it is", "reason", Cause),
        *_section("Reasons of BrokerReachable", "reason", BrokerReason),
        *_section("Reasons of Working", "reason", WorkReason),
        *_section("Reasons of TimeLimitsEnforced", "reason", LimitReason),
        *_section("Reasons of SentryConfigured", "reason", SentryReason),
        *_section("Reasons of NotificationsConfigured", "reason", NotificationsReason),
        *_section("Reasons of ScalingActive", "reason", Activity),
        "## Events\n",
        "A `Warning` with the condition's reason and message is recorded once when a pool becomes stalled, when "
        "its workers cannot reach the broker, when a problem of `Working` appears, when "
        "its Sentry DSN, webhook or a time limit has no effect, or when scaling stops without a request. Further "
        "events:\n",
        *_table("reason", ((reason.value, reason.meaning) for reason in EventReason)),
    ]
    return "\n".join(parts) + "\n"


def metadata() -> str:
    """Build the page of labels and annotations."""
    parts = [
        LABELS_HEAD,
        "## Labels on owned objects and worker pods\n",
        *_table("label", labels.LABELS.items()),
        "",
        "## Annotations\n",
        *_table("annotation", labels.ANNOTATIONS.items()),
    ]
    return "\n".join(parts) + "\n"


def _section(title: str, column: str, members: Iterable[Meaningful]) -> Iterator[str]:
    yield f"## {title}\n"
    yield from _table(column, ((member.value, member.meaning) for member in members))
    yield ""


def _table(column: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"| {column} | meaning |"
    yield "|---|---|"
    for name, meaning in rows:
        yield f"| `{name}` | {meaning} |"
