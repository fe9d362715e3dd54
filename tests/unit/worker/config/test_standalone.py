from __future__ import annotations

import json

import pytest

from celeriac.config import contract, standalone


def test_the_document_of_a_pool_is_passed_on_as_it_is() -> None:
    assert standalone.document({"CELERIAC_CONFIG": " {} "}, {}) == " {} "


def test_flags_alone_make_a_document_that_can_be_read() -> None:
    config = contract.parse(standalone.document({}, {"app": "shop", "worker.concurrency": 3, "liveness.port": 9000}))
    assert (config.app, config.worker.concurrency, config.liveness.port) == ("shop", 3, 9000)
    assert config.pool.name == "celery"


def test_flags_are_laid_over_a_document() -> None:
    given = {"CELERIAC_CONFIG": '{"version":1,"worker":{"pool":"solo","concurrency":1}}'}
    merged = json.loads(standalone.document(given, {"worker.concurrency": 3, "queues": ["a"]}))
    assert merged == {"version": 1, "worker": {"pool": "solo", "concurrency": 3}, "queues": ["a"]}


@pytest.mark.parametrize(
    ("environ", "flags", "sentence"),
    [
        pytest.param({}, {}, "no document in CELERIAC_CONFIG and no --app", id="nothing at all"),
        pytest.param({}, {"queues": ["a"]}, "and no --app", id="flags without an application"),
        pytest.param({"CELERIAC_CONFIG": "{"}, {"app": "x"}, "is not JSON", id="a document that is none"),
        pytest.param({"CELERIAC_CONFIG": "[]"}, {"app": "x"}, "not a JSON object", id="a list"),
        pytest.param({"CELERIAC_CONFIG": '{"worker":3}'}, {"worker.pool": "solo"}, "worker is", id="a bad section"),
    ],
)
def test_a_sentence_for(environ: dict[str, str], flags: dict[str, object], sentence: str) -> None:
    with pytest.raises(contract.ContractError, match=sentence):
        standalone.document(environ, flags)


def test_by_hand_the_application_says_how_many_slots_unless_a_flag_does() -> None:
    worker = contract.parse(standalone.document({}, {"app": "shop"}, processors=6)).worker
    assert (worker.concurrency, worker.concurrency_is_default) == (6, True)
    worker = contract.parse(standalone.document({}, {"app": "shop", "worker.concurrency": 3}, processors=6)).worker
    assert (worker.concurrency, worker.concurrency_is_default) == (3, False)
