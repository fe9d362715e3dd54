"""The troubleshooting page has a section for every reason that a person may meet."""

from __future__ import annotations

import re

import pytest

from celeriac_operator import reasons
from demo import install

HEADINGS = re.findall(r"^### (\w+)", (install.ROOT / "docs/operations/troubleshooting.md").read_text(), re.MULTILINE)
KINDS = [kind for kind in reasons.Meaningful.__subclasses__() if kind is not reasons.Type]
WELL = {
    reasons.Progress.READY,
    reasons.BrokerReason.CONNECTED,
    reasons.WorkReason.BUSY,
    reasons.WorkReason.IDLE,
    reasons.LimitReason.BY_CELERY,
    reasons.LimitReason.BY_PROBE,
    reasons.SentryReason.CONFIGURED,
    reasons.NotificationsReason.CONFIGURED,
    reasons.Activity.ACTIVE,
    # Steps that somebody has asked for.
    reasons.EventReason.CREATED,
    reasons.EventReason.ROLLING,
    reasons.EventReason.ROLLED_OUT,
    reasons.EventReason.SCALED,
}


@pytest.mark.parametrize(
    "reason",
    [each for kind in KINDS for each in kind if each not in WELL],
    ids=str,
)
def test_a_reason_has_a_section(reason):
    assert str(reason) in HEADINGS


def test_a_section_is_about_a_reason_that_there_is():
    known = {str(each) for kind in KINDS for each in kind}
    assert set(HEADINGS) <= known
