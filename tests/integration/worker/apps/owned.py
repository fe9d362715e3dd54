"""An application that says how its workers run."""

from celery import Celery

app = Celery("owned", set_as_current=False)
app.conf.worker_concurrency = 6
app.conf.worker_pool = "threads"


@app.task
def idle() -> None:
    pass
