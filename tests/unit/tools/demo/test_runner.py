"""Rows run beside each other, and what goes wrong in one is its own outcome."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import cast

from demo import report, runner
from demo.programme import Row
from demo.shop import Shop
from demo.waiting import TimedOutError

SHOP = cast("Shop", None)  # the rows here do not look at it


@dataclass(frozen=True)
class Said:
    text: str
    wants: str | None = None

    def sentence(self) -> str:
        return self.text

    def shortfall(self) -> str | None:
        return self.wants


def a_row(name: str, evidence: Said | Exception) -> Row:
    def run(shop: Shop) -> Said:
        if isinstance(evidence, Exception):
            raise evidence
        return evidence

    return Row(name, f"title of {name}", run)


def test_rows_of_two_tracks_run_at_the_same_time():
    meeting = threading.Barrier(2, timeout=5)

    def meet(shop: Shop) -> Said:
        meeting.wait()
        return Said("met")

    outcomes = runner.run([[[Row("a", "", meet)], [Row("b", "", meet)]]], SHOP, lambda: "", lambda _: None)
    assert [outcome.holds for outcome in outcomes] == [True, True]


def test_a_row_that_cannot_be_measured_leaves_the_others_alone():
    rows = [a_row("lost", TimedOutError("waited 5 s")), a_row("fine", Said("all is well"))]
    shown: list[str] = []
    outcomes = runner.run([[rows]], SHOP, lambda: "conditions and logs", lambda outcome: shown.append(outcome.row.name))
    lost, fine = outcomes
    assert lost.problem == "TimedOutError: waited 5 s"
    assert lost.diagnosis == "conditions and logs"
    assert fine.holds
    assert fine.diagnosis == ""
    assert shown == ["lost", "fine"]


def test_stages_come_one_after_the_other():
    shown: list[str] = []
    stages = [[[a_row("first", Said("1"))]], [[a_row("second", Said("2"))]]]
    runner.run(stages, SHOP, lambda: "", lambda outcome: shown.append(outcome.row.name))
    assert shown == ["first", "second"]


def test_a_script_reads_what_was_measured_and_what_falls_short():
    (outcome,) = runner.run([[[a_row("mail", Said("5 e-mails", "one"))]]], SHOP, lambda: "", lambda _: None)
    document = json.loads(json.dumps(outcome.document()))
    assert document["facts"] == {"text": "5 e-mails", "wants": "one"}
    assert (document["holds"], document["evidence"], document["problem"]) == (False, "5 e-mails", "one")


def test_the_table_shows_mark_title_evidence_and_problem():
    (outcome,) = runner.run([[[a_row("mail", Said("5 e-mails", "one"))]]], SHOP, lambda: "", lambda _: None)
    lines = report.row(outcome).splitlines()
    assert lines[0].startswith("FAILS  title of mail")
    assert [line.strip() for line in lines[1:]] == ["5 e-mails", "one"]


def test_the_summary_names_the_rows_that_do_not_hold():
    rows = [a_row("mail", Said("5", "one")), a_row("scale", Said("3"))]
    outcomes = runner.run([[rows]], SHOP, lambda: "", lambda _: None)
    assert report.summary(outcomes, 12) == "1 of 2 do not hold: mail"
    assert report.summary(outcomes[1:], 12) == "All 1 hold, measured in 12 s."


def test_a_quoted_log_line_is_not_wrapped():
    line = "[2026-01-01 12:00:00,000:INFO] " + "word " * 60 + "end"
    (outcome,) = runner.run([[[a_row("logs", Said(line))]]], SHOP, lambda: "", lambda _: None)
    assert line in report.row(outcome)
