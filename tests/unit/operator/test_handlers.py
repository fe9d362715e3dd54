"""What kopf is told."""

from __future__ import annotations

from celeriac_operator import handlers


def test_a_watch_whose_list_hangs_begins_anew_before_anybody_misses_it() -> None:
    # The fault campaign's "LIST ... #2: no answer in time" found pools deaf for kopf's own five minutes.
    limit = handlers.settings().networking.request_timeout
    assert limit is not None
    assert limit <= 60


def test_a_watch_that_hangs_is_noticed_soon_after_the_bookmark_that_did_not_come() -> None:
    chosen = handlers.settings().watching
    assert 60 < chosen.inactivity_timeout <= 120
