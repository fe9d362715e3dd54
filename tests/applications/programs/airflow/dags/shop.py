"""DAGs that the steps run; the same file for Airflow 2 and 3."""

import datetime as dt
import os
import time
from pathlib import Path

try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task

HOME = Path(os.environ["AIRFLOW_HOME"])
OPTIONS = {"schedule": None, "start_date": dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc), "catchup": False}


def note(name, what):
    with (HOME / f"{name}.notes").open("a") as notes:
        notes.write(f"{what}\n")


@dag(dag_id="orders", **OPTIONS)
def orders():
    @task
    def extract():
        return list(range(10))

    @task
    def total(numbers):
        return sum(numbers)

    @task
    def count(numbers):
        print("counting is said in the task's log")
        return len(numbers)

    @task
    def load(one, other):
        note("orders", f"{one} {other}")

    numbers = extract()
    load(total(numbers), count(numbers))


@dag(dag_id="again", **OPTIONS)
def again():
    @task(retries=1, retry_delay=dt.timedelta(seconds=1))
    def fail_once():
        first = not (HOME / "again.notes").exists()
        note("again", "run")
        if first:
            raise ValueError("broken")

    fail_once()


@dag(dag_id="broken", **OPTIONS)
def broken():
    @task
    def fail():
        raise ValueError("broken")

    @task
    def after(_):
        note("broken", "run")

    after(fail())


def wait_for_a_file(name):
    note(name, "began")
    until = time.monotonic() + 600
    while not (HOME / f"{name}.go").exists() and time.monotonic() < until:
        time.sleep(0.2)
    note(name, "ended")


@dag(dag_id="killed", **OPTIONS)
def killed():
    @task(retries=1, retry_delay=dt.timedelta(seconds=1))
    def wait():
        wait_for_a_file("killed")

    wait()


@dag(dag_id="drained", **OPTIONS)
def drained():
    @task
    def wait():
        wait_for_a_file("drained")

    wait()


orders()
again()
broken()
killed()
drained()
