"""What kopf is told."""

from __future__ import annotations

import pytest

from celeriac_operator.cluster import watches


def test_a_watch_whose_list_hangs_begins_anew_before_anybody_misses_it() -> None:
    # The fault campaign's "LIST ... #2: no answer in time" found pools deaf for kopf's own five minutes.
    limit = watches.settings().networking.request_timeout
    assert limit is not None
    assert limit <= 60


def test_a_watch_that_hangs_is_noticed_soon_after_the_bookmark_that_did_not_come() -> None:
    chosen = watches.settings().watching
    assert 60 < chosen.inactivity_timeout <= 120


@pytest.mark.parametrize(
    ("method", "path", "is_watch", "expected"),
    [
        pytest.param("GET", "/api/v1/pods", False, True, id="a list of the whole cluster"),
        pytest.param("GET", "/apis/apps/v1/namespaces/a/deployments", False, True, id="a list of a namespace"),
        pytest.param("GET", "/api/v1/pods", True, False, id="a watch goes on"),
        pytest.param("GET", "/apis/apps/v1", False, False, id="discovery"),
        pytest.param("PATCH", "/api/v1/pods", False, False, id="not a read"),
    ],
)
def test_a_watch_that_begins_anew_is_told_by_its_list_even_when_that_is_empty(
    method: str, path: str, is_watch: bool, expected: bool
) -> None:
    # The fault campaign found the last pods of a cluster remembered when they went while their watch had expired.
    assert watches.is_list(method, path, is_watch=is_watch) is expected


def test_kopf_keeps_no_copies_of_objects_for_handlers_that_there_are_none_of() -> None:
    storage = watches.settings().persistence.diffbase_storage
    assert storage.build(body={"spec": {"a": 1}}) == {}
    assert storage.fetch(body={}) is None
