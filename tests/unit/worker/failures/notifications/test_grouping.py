"""What a message says of many failures, and when it is due."""

from __future__ import annotations

import functools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.failures.notifications import grouping
from celeriac.failures.notifications.grouping import Digest, Group, MessagePace, Origin

ORIGIN = Origin(namespace="shop", pool="emails", pod="emails-7d9-x2")
HEAD = "*shop/emails* on emails-7d9-x2"


def it(task: str = "shop.send", *, kind: str = "exception", n: int = 1, detail: str = "ValueError: no") -> Digest:
    """A failure; `n` numbers it."""
    return grouping.failure(kind, task, f"id-{n}", detail, at=1_000_000.0 + n)


def digest(*failures: Digest) -> Digest:
    joined = functools.reduce(grouping.merge, failures, None)
    assert joined is not None
    return joined


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        pytest.param(
            [it()],
            f"{HEAD}: 1 failure since 1970-01-12 13:46:41 UTC\n• `shop.send` failed (`id-1`): `ValueError: no`",
            id="one failure",
        ),
        pytest.param(
            [it(n=n) for n in range(1, 501)],
            f"{HEAD}: 500 failures since 1970-01-12 13:46:41 UTC\n"
            "• 500 × `shop.send` failed (last: `id-500`): `ValueError: no`",
            id="a flood of one task",
        ),
        pytest.param(
            [it(), it("shop.report", kind="worker-lost", n=2, detail="WorkerLostError: SIGKILL"), it(n=3)],
            f"{HEAD}: 3 failures since 1970-01-12 13:46:41 UTC\n"
            "• 2 × `shop.send` failed (last: `id-3`): `ValueError: no`\n"
            "• `shop.report` lost its process (`id-2`): `WorkerLostError: SIGKILL`",
            id="failures of several kinds",
        ),
        pytest.param(
            [it(kind="hard-time-limit", detail="TimeLimitExceeded: 3"), it(kind="dead-letter", detail="DeadLetter")],
            f"{HEAD}: 2 failures since 1970-01-12 13:46:41 UTC\n"
            "• `shop.send` was ended at its hard time limit (`id-1`): `TimeLimitExceeded: 3`\n"
            "• a message of `shop.send` is in the dead-letter queue (`id-1`): `DeadLetter`",
            id="one task in two ways",
        ),
        pytest.param(
            [it("<!channel>", detail="E: <@U1> & co")],
            f"{HEAD}: 1 failure since 1970-01-12 13:46:41 UTC\n"
            "• `&lt;!channel&gt;` failed (`id-1`): `E: &lt;@U1&gt; &amp; co`",
            id="text that would be markup",
        ),
        pytest.param(
            [it("a`b", detail="E: ` @channel ![x](http://host/y.png) *bold*")],
            f"{HEAD}: 1 failure since 1970-01-12 13:46:41 UTC\n"
            "• `a'b` failed (`id-1`): `E: ' @channel ![x](http://host/y.png) *bold*`",
            id="text that would leave its code span",
        ),
        pytest.param(
            [it(detail="E: first\n  second\t third")],
            f"{HEAD}: 1 failure since 1970-01-12 13:46:41 UTC\n• `shop.send` failed (`id-1`): `E: first second third`",
            id="an error of several lines",
        ),
        pytest.param(
            [it("{0}", kind="new-kind")],
            f"{HEAD}: 1 failure since 1970-01-12 13:46:41 UTC\n• `{{0}}`: new-kind (`id-1`): `ValueError: no`",
            id="a kind that has no sentence",
        ),
    ],
)
def test_a_message_about(failures: list[Digest], expected: str) -> None:
    assert grouping.text(digest(*failures), ORIGIN) == expected


def test_kinds_beyond_the_bound_are_one_line_with_their_count() -> None:
    many = digest(*(it(f"task-{n % 1000}", n=n) for n in range(3000)))
    assert len(many.groups) == grouping.MOST_GROUPS
    assert many.count == 3000
    assert grouping.text(many, ORIGIN).splitlines()[-1] == "• 2940 × other tasks"


ANY_TEXT = st.one_of(
    st.text(st.characters(), max_size=400),
    st.text("&<>`@*_~[]()! \n\r\t\x1b\u2028\u202e\ud800", max_size=400),
    st.sampled_from(["t" * 100_000, "&" * 100_000, "\x1b" * 100_000, " " * 100_000, "", "\U0001f600" * 1000]),
)
"""What a producer may put into a message: all of Unicode, lone surrogates included."""


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT), min_size=1, max_size=5))
def test_whatever_a_message_holds_stands_in_three_short_code_spans_of_one_line(
    failures: list[tuple[str, str, str]],
) -> None:
    joined = digest(*(grouping.failure("exception", task, id_, detail, at=1.0) for task, id_, detail in failures))
    lines = grouping.text(joined, ORIGIN).split("\n")
    assert len(lines) == 1 + len(joined.groups)
    for line in lines[1:]:
        assert re.fullmatch(r"• (\d+ × )?`[^`]{1,150}` failed \((last: )?`[^`]{1,50}`\): `[^`]{1,200}`", line)
        assert line.isprintable()
        assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", line), "as Slack wants it escaped"
        line.encode()


def test_the_length_of_a_message_is_bounded_whatever_fails() -> None:
    huge = digest(*(it(f"{n}" + "&" * 10_000, detail="<" * 1_000_000) for n in range(100)))
    assert len(grouping.text(huge, ORIGIN)) < 12_000


def test_a_message_that_was_refused_becomes_a_number_and_keeps_nothing_else_back() -> None:
    refused = digest(it(), it(n=2), it("b")).without_details()
    joined = digest(refused, it("c", n=3))
    assert joined.count == 4
    assert grouping.text(joined, ORIGIN).splitlines() == [
        f"{HEAD}: 4 failures since 1970-01-12 13:46:41 UTC",
        "• `c` failed (`id-3`): `ValueError: no`",
        "• 3 × in a message that was refused; the worker's log names them",
    ]


@pytest.mark.parametrize(
    ("earlier", "later", "groups", "others"),
    [
        pytest.param([it()], None, {("exception", "shop.send"): 1}, 0, id="nothing failed meanwhile"),
        pytest.param([it(), it(n=2)], [it(n=3)], {("exception", "shop.send"): 3}, 0, id="the same failed again"),
        pytest.param(
            [it()],
            [it("b", n=2), it("b", n=3)],
            {("exception", "shop.send"): 1, ("exception", "b"): 2},
            0,
            id="something else failed",
        ),
    ],
)
def test_what_was_not_sent_joins_what_came_meanwhile_when(
    earlier: list[Digest], later: list[Digest] | None, groups: dict[tuple[str, str], int], others: int
) -> None:
    merged = grouping.merge(digest(*earlier), digest(*later) if later else None)
    assert merged is not None
    assert {key: group.count for key, group in merged.groups.items()} == groups
    assert merged.others == others
    assert merged.since == 1_000_001.0


def test_a_merge_keeps_to_the_bound_and_counts_everything() -> None:
    one, other = (digest(*(it(f"{side}{n}") for n in range(15))) for side in "ab")
    merged = grouping.merge(one, other)
    assert merged is not None
    assert len(merged.groups) == grouping.MOST_GROUPS
    assert (merged.count, merged.others) == (30, 10)


def test_the_last_of_a_group_is_the_one_that_is_named() -> None:
    merged = grouping.merge(digest(it(detail="old")), digest(it(n=2, detail="new")))
    assert merged is not None
    assert merged.groups == {("exception", "shop.send"): Group(count=2, task_id="id-2", detail="new")}


@pytest.mark.parametrize(
    ("first", "last_sent", "due"),
    [
        pytest.param(100.0, None, 101.0, id="the first of all: once a burst has gathered"),
        pytest.param(500.0, 100.0, 501.0, id="the first after a quiet time: likewise"),
        pytest.param(101.0, 100.0, 160.0, id="one in a flood: when the interval is over"),
        pytest.param(159.5, 100.0, 160.5, id="one at the end of the interval: gathers too"),
    ],
)
def test_a_message_is_due(first: float, last_sent: float | None, due: float) -> None:
    assert MessagePace(gather_seconds=1, interval_seconds=60).due_at(first, last_sent) == due
