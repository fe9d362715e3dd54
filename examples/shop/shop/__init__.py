"""The project. Importing the Celery application here is what makes `delay()` find its broker in the web process."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
