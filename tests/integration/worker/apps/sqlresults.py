"""Results go to a SQL database, by SQLAlchemy or by Django, whose folder a task takes away."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

FOLDER = Path(os.environ["TEST_DATABASE"])
KIND = os.environ["TEST_RESULTS"]

if KIND == "django-db":
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="none",
        INSTALLED_APPS=["django.contrib.contenttypes", "django_celery_results"],
        USE_TZ=True,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(FOLDER / "results.sqlite3")}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    os.environ["DJANGO_SETTINGS_MODULE"] = "sqlresults"  # Celery looks for the name alone: the settings are there
    django.setup()

app = Celery("sqlresults", broker=os.environ.get("TEST_BROKER"), set_as_current=True)
app.conf.result_backend = KIND if KIND == "django-db" else f"db+sqlite:///{FOLDER / 'results.sqlite3'}"
app.conf.worker_hijack_root_logger = True
app.conf.task_acks_late = True


@app.task(name="sqlresults.take_away")
def take_away() -> str:
    """The database is away when this one ends, and there when it ends again."""
    if not Path(f"{FOLDER}.away").exists() and not (FOLDER / "was-away").exists():
        (FOLDER / "was-away").touch()
        FOLDER.rename(f"{FOLDER}.away")
        if KIND == "django-db":
            from django.db import connection  # noqa: PLC0415 - Django is there in one of two cases

            connection.close()
    return "stored"


@app.task(name="sqlresults.ping")
def ping() -> str:
    """The backend has been used once."""
    return "pong"


def migrate() -> None:
    """Make Django's tables; SQLAlchemy's make themselves."""
    if KIND == "django-db":
        from django.core.management import call_command  # noqa: PLC0415 - likewise

        call_command("migrate", verbosity=0)
