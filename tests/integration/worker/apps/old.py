"""The basic application before a task was added to it."""

from celery import Celery

app = Celery("old", set_as_current=False)
