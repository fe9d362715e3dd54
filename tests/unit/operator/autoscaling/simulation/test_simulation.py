"""Nothing is lost or invented in a simulation, and what the page shows is what the simulator says."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac_operator.autoscaling.policy import BacklogPerReplica, BusySlots, Latency, Spec
from celeriac_operator.autoscaling.simulation import __main__, arrivals, rivals, run
from celeriac_operator.autoscaling.simulation.arrivals import Task

ROOT = Path(__file__).parents[5]
PAGE = (ROOT / "docs/operations/autoscaling.md").read_text()
SHOWN = re.findall(r'^\$ make simulate ARGS="(.*)"$', PAGE, re.MULTILINE)
UNHURRIED = settings(deadline=None, max_examples=10)  # a busy machine does not make the simulator slow

TASKS = st.lists(st.builds(Task, at=st.floats(0, 200), service_seconds=st.floats(0, 30)), max_size=20).map(
    lambda tasks: sorted(tasks, key=lambda task: task.at)
)
TARGETS = st.sampled_from([BacklogPerReplica(messages=3), Latency(seconds=2), BusySlots(percent=70)])


@st.composite
def chosen(draw: st.DrawFn) -> run.Scaler:
    least = draw(st.integers(0, 3))
    asked = Spec(min_replicas=least, max_replicas=5, target=draw(TARGETS), slots=2, stabilization_seconds=20)
    make: Any = draw(st.sampled_from([rivals.Celeriac, lambda it: rivals.KedaLike(it, 1.0), rivals.CpuLike]))
    scaler: run.Scaler = make(asked)
    return scaler


@UNHURRIED
@given(TASKS, chosen(), st.floats(1, 300), st.floats(0, 30))
def test_tasks_in_are_tasks_done_waiting_or_running(
    tasks: list[Task], scaler: run.Scaler, seconds: float, start: float
) -> None:
    world = run.World(slots=2, start_seconds=start)
    ran = run.run(tasks, scaler, world, seconds=seconds, sample_seconds=1)
    assert ran.arrived == sum(task.at <= seconds for task in tasks) == ran.done + ran.waiting + ran.running
    assert len(ran.waits) == ran.done + ran.running
    assert min(ran.waits, default=0.0) >= 0
    assert max(sample.replicas for sample in ran.samples) <= 5
    assert 0 <= ran.share_within(5) <= 1


@UNHURRIED
@given(TASKS, chosen())
def test_in_the_end_every_task_is_done(tasks: list[Task], scaler: run.Scaler) -> None:
    world = run.World(slots=2, start_seconds=1)
    ran = run.run(tasks, scaler, world, seconds=1_500, sample_seconds=100)
    assert (ran.done, ran.waiting, ran.running) == (len(tasks), 0, 0)


@UNHURRIED
@given(TASKS)
def test_workers_are_paid_for_at_least_the_work_they_did(tasks: list[Task]) -> None:
    scaler = rivals.Celeriac(Spec(min_replicas=0, max_replicas=5, target=BusySlots(percent=100), slots=2))
    ran = run.run(tasks, scaler, run.World(slots=2, start_seconds=1), seconds=1_500, sample_seconds=100)
    assert ran.replica_hours * 3_600 * 2 >= sum(task.service_seconds for task in tasks) - 1e-6


def test_an_empty_pool_that_leaves_no_work_costs_nothing_again() -> None:
    scaler = rivals.Celeriac(Spec(min_replicas=0, max_replicas=5, target=BacklogPerReplica(messages=1)))
    ran = run.run(
        [Task(at=10.2, service_seconds=1.0)], scaler, run.World(slots=1, start_seconds=2),
        seconds=3_600, sample_seconds=1,
    )  # fmt: skip
    assert ran.waits == pytest.approx([2.3])  # the next round is at 10.5, the worker at 12.5
    assert ran.samples[-1].replicas == 0
    assert 60 / 3_600 < ran.replica_hours < 70 / 3_600


def test_the_first_message_starts_sooner_than_with_a_poll_every_thirty_seconds() -> None:
    asked = Spec(min_replicas=0, max_replicas=5, target=BacklogPerReplica(messages=1))
    waits = [
        run.run([Task(at=40.0, service_seconds=1)], it, run.World(slots=1, start_seconds=2), seconds=200,
                       sample_seconds=10).waits
        for it in (rivals.Celeriac(asked), rivals.KedaLike(asked, 1.0))
    ]  # fmt: skip
    assert waits == [pytest.approx((2.5,)), pytest.approx((29.5,))]


def test_the_same_seed_gives_the_same_tasks_in_order() -> None:
    first, again, other = (
        arrivals.build(arrivals.SHAPES["ramp"], seed=seed, mean_seconds=1, runtimes="lognormal") for seed in (7, 7, 8)
    )
    assert first == again != other
    assert first == sorted(first, key=lambda task: task.at)


@pytest.mark.parametrize("runtimes", arrivals.RUNTIMES)
def test_the_mean_runtime_is_what_was_asked_for(runtimes: str) -> None:
    tasks = arrivals.build(arrivals.SHAPES["ramp"], seed=3, mean_seconds=2, runtimes=runtimes)
    assert sum(task.service_seconds for task in tasks) / len(tasks) == pytest.approx(2, rel=0.05)


def parse(text: str) -> list[Task]:
    return arrivals.parse(io.StringIO(text), seed=1, mean_seconds=9, runtimes="fixed")


def test_a_trace_may_say_the_runtime_of_each_task() -> None:
    assert parse("at,seconds\n3,0.5\n1.5,\n") == [
        Task(at=1.5, service_seconds=9),
        Task(at=3.0, service_seconds=0.5),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "line 1: the first line must name the columns", id="an empty file"),
        pytest.param("1\n2\n", "line 1: the first line must name the columns", id="no header"),
        pytest.param("at\n", "no tasks: each line after the first is one task", id="a header alone"),
        pytest.param("at\n1\nsoon\n", "line 3: `at` must be seconds from the start, such as 12.5", id="a word"),
        pytest.param("at,seconds\n1,-2\n", "line 2: `seconds` must be", id="a runtime below zero"),
        pytest.param("at\nnan\n", "line 2: `at` must be", id="no number at all"),
    ],
)  # fmt: skip
def test_an_unusable_trace_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(arrivals.UnusableTraceError, match=re.escape(says)):
        parse(text)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--trace", "no/such.csv"], "No such file", id="a file that is not there"),
        pytest.param(["--min", "9", "--max", "3"], "minimum <= maximum", id="a floor above the ceiling"),
        pytest.param(["--service-seconds", "0"], "--service-seconds must be above 0", id="tasks without a runtime"),
    ],
)
def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert __main__.main(arguments) == 2
    assert says in capsys.readouterr().err


def test_the_command_replays_a_file_and_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, drawn = tmp_path / "tasks.csv", tmp_path / "tasks.svg"
    trace.write_text("at,seconds\n" + "".join(f"{number},2\n" for number in range(30)))
    assert __main__.main(["--trace", str(trace), "--svg", str(drawn), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["load"], result["tasks"], result["seed"]) == ("tasks.csv", 30, 1)
    assert [it["done"] for it in result["policies"].values()] == [30, 30, 30]
    text = drawn.read_text()
    assert len(re.findall(r'<path class="run\d" d="[^"]*" fill="none"', text)) == 9
    assert "<title>Simulated tasks.csv: 30 tasks" in text


@pytest.mark.parametrize("shown", SHOWN)
def test_each_command_of_the_page_runs(capsys: pytest.CaptureFixture[str], shown: str) -> None:
    assert __main__.main(shlex.split(shown)) == 0
    printed = capsys.readouterr().out
    assert "--json" in shown or "--latency" in shown or printed in PAGE


def test_the_picture_of_the_page_is_what_its_first_command_draws(tmp_path: Path) -> None:
    drawn = tmp_path / "burst.svg"
    __main__.main([*shlex.split(SHOWN[0]), "--svg", str(drawn)])
    assert drawn.read_text() == (ROOT / "docs/operations/autoscaling-burst.svg").read_text(), (
        f'run: make simulate ARGS="{SHOWN[0]} --svg docs/operations/autoscaling-burst.svg"'
    )
