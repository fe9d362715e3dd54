from __future__ import annotations

from pathlib import Path
from typing import Any

import celery
import pytest
from celery import Celery

from celeriac.config import application, contract

MINIMAL = (Path(__file__).parents[3] / "golden" / "contract" / "minimal.json").read_text()
NOBODY = contract.Environment(pod_name="pod-1")


def an_app(**settings: Any) -> Any:
    app = Celery("unit", set_as_current=False)
    app.conf.update(settings)
    return app


def lay(app: Celery, environment: contract.Environment = NOBODY) -> None:
    own = application.read_own(app, environment)
    application.lay_settings(app, contract.parse(MINIMAL), environment, own)


def test_only_what_the_application_sets_itself_is_its_own_word() -> None:
    own = application.read_own(an_app(task_acks_late=False, worker_prefetch_multiplier=7), NOBODY)
    assert own == {"task_acks_late": False, "worker_prefetch_multiplier": 7}


def test_settings_under_a_namespace_or_an_old_name_are_the_applications_word_too() -> None:
    namespaced = Celery("unit", set_as_current=False)
    namespaced.config_from_object({"CELERY_TASK_ACKS_LATE": False, "OTHER": 1}, namespace="CELERY")
    assert application.read_own(namespaced, NOBODY) == {"task_acks_late": False}
    old = Celery("unit", set_as_current=False)
    old.config_from_object({"CELERYD_PREFETCH_MULTIPLIER": 9})
    assert application.read_own(old, NOBODY)["worker_prefetch_multiplier"] == 9


def test_a_task_used_before_gets_the_new_settings_unless_it_declares_its_own() -> None:
    app = an_app()

    @app.task(name="unit.silent")
    def silent() -> None: ...

    @app.task(name="unit.early", acks_late=False)
    def early() -> None: ...

    class Base(celery.Task):  # type: ignore[type-arg]
        acks_late = False

    @app.task(name="unit.derived", base=Base)
    def derived() -> None: ...

    assert (silent.acks_late, early.acks_late, derived.acks_late) == (False, False, False)  # binds all three
    lay(app)
    assert (silent.acks_late, early.acks_late, derived.acks_late) == (True, False, False)


def test_a_result_backend_made_during_the_import_is_made_anew() -> None:
    app = an_app(result_backend="redis://old/0")
    assert app.backend.url == "redis://old/0"
    lay(app, contract.Environment(pod_name="p", result_backend_url="redis://new/0"))
    assert app.backend.url == "redis://new/0"


def test_the_variables_that_celery_prefers_give_way_to_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://theirs/0")
    app = an_app()
    lay(app, contract.Environment(pod_name="p", broker_url="redis://ours/0"))
    assert app.conf.broker_read_url == "redis://ours/0"
    assert app.connection_for_write().as_uri() == "redis://ours:6379/0" or "ours" in app.connection_for_write().as_uri()


def test_without_the_pools_word_the_variables_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://theirs/0")
    app = an_app()
    lay(app)
    assert app.conf.broker_read_url == "redis://theirs/0"
    assert app.conf.broker_transport_options["socket_timeout"] > 0
