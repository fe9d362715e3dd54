"""Policies keep the ETA of a call, in every form that Celery accepts.

The tests that name cells show what the table "What happens when" of docs/guides/policies.md says.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from celery.worker.request import Request
from tests.integration.worker.policies.calls import QUIET, Tasks, claims, every_policy, settle
from tests.integration.worker.policies.policy_cells import covers

from celeriac import testing
from celeriac.store import keys

# --- ETA


@covers("ETA, countdown")
@pytest.mark.parametrize("option", ["countdown", "eta"])
@every_policy
def test_an_eta_is_kept(tasks: Tasks, policy: str, option: str) -> None:
    seconds = 2 * QUIET
    moment = dt.datetime.now(tz=dt.timezone.utc) + dt.timedelta(seconds=seconds)
    began = tasks.calls.clock.now
    first = tasks.of(policy).apply_async(("ann", 1), **{option: seconds if option == "countdown" else moment})
    second = tasks.of(policy).apply_async(("ann", 2), **{option: seconds if option == "countdown" else moment})
    ran_at: list[float] = []
    tasks.step = lambda *_: ran_at.append(tasks.calls.clock.now)
    settle(tasks)
    assert min(ran_at) - began >= seconds - 0.005  # the ETA is written down in microseconds, Redis counts in ms
    expected = {"Throttle": [1], "Unique": [1], "Debounce": [2], "Coalesce": [2], "Exclusive": [1, 2]}[policy]
    assert tasks.arguments(policy) == expected
    assert (first.id == second.id) is (policy != "Exclusive")


def test_an_eta_comes_on_top_of_a_claim(tasks: Tasks) -> None:
    tasks.of("Unique").apply_async(("ann",), countdown=1000)
    left = tasks.calls.client.pttl(keys.unique("Unique", "ann", prefix=tasks.calls.prefix))
    assert 1_200_000 < left <= 1_300_000


# --- forms of an ETA

MOMENT = dt.datetime.now(tz=dt.timezone.utc) + dt.timedelta(hours=1)
ETAS: dict[str, dict[str, Any]] = {
    "seconds": {"countdown": 3600},
    "a fraction": {"countdown": 3600.5},
    "past": {"countdown": -5},
    "none": {"countdown": None, "eta": None},
    "zero": {"countdown": 0},
    "aware": {"eta": MOMENT},
    "aware elsewhere": {"eta": MOMENT.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30)))},
    "naive": {"eta": MOMENT.replace(tzinfo=None)},
    "text": {"eta": MOMENT.isoformat()},
    "text in UTC": {"eta": MOMENT.isoformat().replace("+00:00", "Z")},
    "naive text": {"eta": MOMENT.replace(tzinfo=None).isoformat()},
    "a date as text": {"eta": (MOMENT + dt.timedelta(days=1)).date().isoformat()},
    "a number": {"eta": 3600},
    "a span": {"eta": dt.timedelta(hours=1)},
    "a span as countdown": {"countdown": dt.timedelta(hours=1)},
    "text as countdown": {"countdown": "60"},
    "expires sooner": {"countdown": 3600, "expires": 60},
    "expires at a moment": {"expires": MOMENT},
    "expires at a text": {"expires": MOMENT.isoformat()},
    "expires later": {"expires": 86_400},
}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("options", ETAS.values(), ids=ETAS)
def test_a_claim_stands_as_much_longer_as_its_message_waits_in_every_form_that_celery_takes(
    tasks: Tasks, options: dict[str, Any], zone: str
) -> None:
    tasks.app.conf.timezone = zone

    @tasks.app.task(name="plain", shared=False)
    def plain(user: str) -> None:
        """Never runs."""

    try:
        plain.apply_async(("ann",), **options)
    except (TypeError, AttributeError, ValueError) as refused:
        with pytest.raises(type(refused)):
            tasks.of("Unique").apply_async(("ann",), **options)
        assert claims(tasks) == []
        return
    request = Request(celery_message(tasks), app=tasks.app, task=plain)
    now = dt.datetime.now(tz=dt.timezone.utc)
    waits = max(0.0, (request.eta - now).total_seconds()) if request.eta else 0.0
    ends = (request.expires - now).total_seconds() if request.expires else float("inf")
    tasks.of("Unique").apply_async(("ann",), **options)
    left = tasks.calls.client.pttl(keys.unique("Unique", "ann", prefix=tasks.calls.prefix)) / 1000
    assert left == pytest.approx(min(300 + waits, ends), abs=5)


def celery_message(tasks: Tasks) -> Any:
    """The message that was published, as a worker of Celery's gets it."""
    raw = tasks.calls.client.rpop(f"{tasks.calls.prefix}celery")
    return testing.calls._message(raw)
