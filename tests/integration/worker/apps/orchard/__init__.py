"""A Django project as Celery's guide makes one."""

from orchard.celery import app as celery_app

__all__ = ["celery_app"]
