"""What a worker left unfinished is told once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.factories import NOW, a_container, a_pod, a_pool, an_end

from celeriac_operator.decide import last_words, observed
from celeriac_operator.memory.caches import LAST_WORDS, Caches, Key
from celeriac_operator.status import events

EMAILS = Key("shop", "emails")
WORDS = "drain: 1 task cut short after 300 s: shop.pack[7f] handed back"


def a_leaving_pod(message: str = WORDS, *, version: int = 21, name: str = "emails-1", **container: Any) -> Any:
    pod = a_pod(a_pool(), a_container(ended=an_end(0, message), **container), name=name, deleting=True)
    pod["metadata"]["resourceVersion"] = str(version)
    return pod


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        pytest.param(a_leaving_pod(), "1 task cut short after 300 s: shop.pack[7f] handed back", id="cut short"),
        pytest.param(
            a_leaving_pod(f"{WORDS}\nThe broker could not be reached."), "1 task cut short", id="and the worker gave up"
        ),
        pytest.param(a_leaving_pod(""), None, id="everything was finished"),
        pytest.param(a_leaving_pod("The broker is away."), None, id="another end"),
        pytest.param(a_leaving_pod(name="emails-2", version=3), "1 task cut short", id="at any version"),
        pytest.param(a_pod(a_pool(), a_container(running_for=3)), None, id="it runs"),
        pytest.param(
            a_pod(a_pool(), a_container(running_for=3, ended_before=an_end(0, WORDS))), "1 task", id="before a restart"
        ),
    ],
)
def test_what_a_pod_says(pod: Any, words: str | None) -> None:
    said = last_words.read(observed.read_pod(pod))
    assert (said is None) == (words is None)
    assert said is None or said.text.startswith(words or "")


def test_a_sidecars_words_are_its_own() -> None:
    pod = a_pod(a_pool(), a_container(name="side", ended=an_end(0, WORDS)))
    assert last_words.read(observed.read_pod(pod)) is None


def test_it_is_told_once_though_the_pod_is_gone() -> None:
    caches = Caches()
    caches.observe_pod(a_pod(a_pool(), a_container(running_for=3)))
    caches.observe_pod(a_leaving_pod())
    caches.observe_pod(a_leaving_pod(version=22))
    caches.remove_pod(Key("shop", "emails-1"), 23)
    (event,) = events.cut_short(caches.take_last_words(EMAILS), NOW)
    assert (event.kind, event.reason) == ("Warning", "TasksCutShort")
    assert event.message == "pod emails-1: 1 task cut short after 300 s: shop.pack[7f] handed back"
    assert caches.take_last_words(EMAILS) == ()


def test_what_was_said_long_ago_is_not_told_again() -> None:
    caches = Caches()
    caches.observe_pod(a_leaving_pod())
    said = caches.take_last_words(EMAILS)
    assert list(events.cut_short(said, NOW + timedelta(seconds=events.FRESH_SECONDS))) == []


def test_where_nobody_tells_them_few_are_kept() -> None:
    caches = Caches()
    for number in range(LAST_WORDS + 4):
        caches.observe_pod(a_leaving_pod(name=f"emails-{number}"))
    assert [each.pod for each in caches.take_last_words(EMAILS)] == [f"emails-{n}" for n in range(4, LAST_WORDS + 4)]
