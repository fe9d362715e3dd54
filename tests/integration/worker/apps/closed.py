"""An application that knows its queues and allows no others."""

from celery import Celery
from kombu import Queue

app = Celery("closed", set_as_current=False)
app.conf.task_queues = [Queue("emails")]
app.conf.task_create_missing_queues = False
