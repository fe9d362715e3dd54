"""A result that is asked for before anything ran is a sentence."""

from __future__ import annotations

import pytest
from celery import Celery, group

import celeriac
from celeriac import testing


def an_app() -> Celery:
    app = Celery("shop", broker="redis://", backend="redis://", set_as_current=False)

    @app.task(name="add", base=celeriac.Task, shared=False)
    def add(first: int, second: int) -> int:
        return first + second

    return app


def test_a_result_that_nobody_is_going_to_make_is_a_sentence() -> None:
    app = an_app()
    with testing.policies(app) as calls:
        result = app.tasks["add"].delay(1, 2)
        with pytest.raises(testing.NotRunError, match=rf"{result.id}: no result, .* call calls\.run\(\) first"):
            result.get()
        later = app.tasks["add"].apply_async((3, 4), countdown=60)
        calls.run()
        assert result.get() == 3
        with pytest.raises(testing.NotRunError, match=r"calls\.advance"):
            later.get(timeout=5)
        calls.advance(60)
        assert later.get() == 7


def test_the_results_of_a_group_likewise() -> None:
    app = an_app()
    add = app.tasks["add"]
    with testing.policies(app) as calls:
        results = group([add.s(it, it) for it in range(5)], app=app).apply_async()
        with pytest.raises(testing.NotRunError, match="and 2 more: no result"):
            results.get()
        calls.run()
        assert results.get() == [0, 2, 4, 6, 8]
