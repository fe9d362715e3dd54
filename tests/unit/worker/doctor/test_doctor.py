from __future__ import annotations

import json
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celeriac.config import contract, settings
from celeriac.config.application import Start
from celeriac.config.settings import Setting, Source
from celeriac.doctor import ancestry, command, effective, examination, rules
from celeriac.doctor.effective import Delivering, Effective
from celeriac.doctor.facts import Ancestor, Facts, TaskFacts

REFERENCE = Path(__file__).parents[4] / "docs" / "operations" / "doctor.md"


def a_task(**changes: Any) -> TaskFacts:
    return replace(TaskFacts(name="shop.send", acks_late=True, reject_on_worker_lost=True), **changes)


def facts(**changes: Any) -> Facts:
    given = {"pool": "prefork", "slots": 4, "broker": "redis", "has_leases": True, "tasks": (a_task(),)}
    return Facts(**{**given, **changes})


def on_sqs(**task: Any) -> Facts:
    return facts(broker="sqs", has_leases=False, visibility_timeout_seconds=1800.0, tasks=(a_task(**task),))


def above(name: str, *arguments: str, catches_sigterm: bool = False) -> tuple[Ancestor, ...]:
    return (Ancestor(pid=1, name=name, arguments=(name, *arguments), catches_sigterm=catches_sigterm),)


@pytest.mark.parametrize(
    ("given", "codes"),
    [
        pytest.param(facts(), [], id="a worker as Celeriac sets it up"),
        pytest.param(
            facts(broker="amqp", has_leases=False, notices_lost_consumers=True),
            [],
            id="a broker that knows when a consumer is gone",
        ),
        # acknowledging
        pytest.param(
            facts(promises_at_least_once=True, tasks=(a_task(acks_late=False),)),
            ["early-acks"],
            id="a task acknowledges early against the pool's promise",
        ),
        pytest.param(facts(tasks=(a_task(acks_late=False),)), [], id="a task acknowledges early and nobody promised"),
        pytest.param(
            facts(promises_at_least_once=True, tasks=(a_task(reject_on_worker_lost=False),)),
            ["lost-process-acks"],
            id="a killed process' message counts as done against the promise",
        ),
        pytest.param(
            facts(pool="threads", promises_at_least_once=True, tasks=(a_task(reject_on_worker_lost=False),)),
            [],
            id="threads are not killed alone",
        ),
        # signals
        pytest.param(facts(ancestors=above("sh", "-c")), ["shell-eats-sigterm"], id="a shell above the worker"),
        pytest.param(
            facts(ancestors=above("bash", catches_sigterm=True)),
            ["shell-between"],
            id="a shell with a trap for SIGTERM",
        ),
        pytest.param(facts(ancestors=above("tini", "--")), [], id="tini"),
        pytest.param(facts(ancestors=above("tini", "-g")), ["wrapper-multiplies-sigterm"], id="tini for the group"),
        pytest.param(facts(ancestors=above("dumb-init")), ["wrapper-multiplies-sigterm"], id="dumb-init"),
        pytest.param(facts(ancestors=above("dumb-init", "-c")), [], id="dumb-init for its child alone"),
        pytest.param(facts(ancestors=above("timeout", "9")), ["wrapper-multiplies-sigterm"], id="timeout"),
        pytest.param(facts(ancestors=above("timeout", "--foreground", "9")), [], id="timeout in the foreground"),
        pytest.param(facts(ancestors=above("supervisord")), ["wrapper-multiplies-sigterm"], id="a supervisor"),
        pytest.param(facts(pool="threads", ancestors=above("dumb-init")), [], id="no children to multiply for"),
        pytest.param(facts(ancestors=above("start.py")), ["unknown-parent"], id="something else above the worker"),
        # time
        pytest.param(
            on_sqs(hard_limit_seconds=1800.0),
            ["visibility-timeout-below-limit", "leases-off", "drain-below-limit"],
            id="a limit as long as the visibility time-out",
        ),
        pytest.param(on_sqs(hard_limit_seconds=299.0), ["leases-off"], id="a limit well below the visibility time-out"),
        pytest.param(
            on_sqs(), ["visibility-timeout-without-limit", "leases-off"], id="no limit below a visibility time-out"
        ),
        pytest.param(
            on_sqs(hard_limit_seconds=60.0, longest_retry_delay_seconds=7200.0),
            ["eta-beyond-visibility-timeout", "leases-off"],
            id="a retry that waits for longer than the visibility time-out",
        ),
        pytest.param(
            on_sqs(acks_late=False), ["leases-off"], id="a task that acknowledges early is not delivered again"
        ),
        pytest.param(
            facts(visibility_timeout_seconds=60.0, tasks=(a_task(hard_limit_seconds=90.0),)),
            [],
            id="leases are renewed for as long as a task runs",
        ),
        pytest.param(
            facts(drain_seconds=100.0, tasks=(a_task(hard_limit_seconds=101.0),)),
            ["drain-below-limit"],
            id="a task may run for longer than a drain",
        ),
        pytest.param(
            facts(drain_seconds=100.0, tasks=(a_task(hard_limit_seconds=100.0),)), [], id="a drain lasts long enough"
        ),
        pytest.param(
            facts(pool="threads", tasks=(a_task(soft_limit_seconds=5.0),)),
            ["soft-limit-without-prefork"],
            id="a soft limit that nobody enforces",
        ),
        pytest.param(facts(tasks=(a_task(soft_limit_seconds=5.0),)), [], id="a soft limit in prefork"),
        # scaling
        pytest.param(facts(held_beyond_running=4), [], id="as many messages held as slots"),
        pytest.param(facts(held_beyond_running=5), ["prefetch-hoards"], id="more messages held than slots"),
        pytest.param(facts(held_beyond_running=None), ["prefetch-hoards"], id="messages held without limit"),
        pytest.param(
            facts(wrong_policies=("policy of task t has no effect",)), ["wrong-policy"], id="a policy that does nothing"
        ),
        # what is left off
        pytest.param(
            facts(own_visibility_timeout_seconds=86400.0),
            ["lease-below-visibility-timeout"],
            id="a time-out of a day, which a lease replaces",
        ),
        pytest.param(facts(own_visibility_timeout_seconds=60.0), [], id="a time-out that the lease keeps"),
        pytest.param(
            facts(tasks=(a_task(batch=10),), window=5), ["batch-never-fills"], id="a window that no batch fits into"
        ),
        pytest.param(facts(tasks=(a_task(batch=10),), window=40, held_beyond_running=36), [], id="one for each slot"),
        pytest.param(
            facts(versions={"redis": (3, 5)}),
            ["redis-py-too-old", "older-versions"],
            id="a redis-py that the library does not run with",
        ),
        pytest.param(
            facts(versions={"redis": (5, 3)}, refused_by_kombu="6.1.0 or later"),
            ["redis-py-too-old"],
            id="a redis-py that kombu does not run with",
        ),
        pytest.param(facts(versions={"redis": (4, 4)}), ["older-versions"], id="one that it runs with, untested"),
        pytest.param(facts(broker="filesystem", has_leases=False), ["leases-off"], id="a transport without leases"),
        pytest.param(facts(versions={"celery": (5, 3)}), ["older-versions"], id="a Celery that is too old"),
        pytest.param(facts(versions=rules.OLDEST), [], id="the oldest releases that are tested"),
    ],
)
def test_what_is_found(given: Facts, codes: list[str]) -> None:
    assert sorted(it.code for it in rules.findings(given)) == sorted(codes)


def test_errors_come_first() -> None:
    given = facts(drain_seconds=1, tasks=(a_task(hard_limit_seconds=5.0),), ancestors=above("sh"))
    assert [it.severity for it in rules.findings(given)] == ["error", "warning"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a"], "a has"),
        (["a", "b"], "a and b has"),
        (["a", "b", "c"], "a, b and c has"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more has"),
    ],
)
def test_tasks_are_named_but_not_all_of_many(names: list[str], said: str) -> None:
    tasks = tuple(a_task(name=name, soft_limit_seconds=1.0) for name in names)
    [finding] = rules.findings(facts(pool="solo", tasks=tasks))
    assert finding.message.startswith(said)


def test_what_a_drain_does_to_a_task_depends_on_its_acknowledgement() -> None:
    def said(*, acks_late: bool) -> str:
        task = a_task(hard_limit_seconds=5.0, acks_late=acks_late)
        return rules.findings(facts(drain_seconds=1, tasks=(task,)))[0].message

    assert "start again elsewhere" in said(acks_late=True)
    assert "are lost" in said(acks_late=False)


def test_the_document_has_exactly_the_findings_that_there_are() -> None:
    rows = set(re.findall(r"^\| `([\w-]+)` \| (error|warning) \|", REFERENCE.read_text(), re.MULTILINE))
    source = Path(rules.__file__).read_text()
    assert rows == set(re.findall(r'code="([\w-]+)",\s+severity="(\w+)"', source))


# --- where a value comes from


def compute(document: dict[str, Any], **own: Any) -> dict[str, tuple[Any, str]]:
    full = {
        "version": 1,
        "pool": {"namespace": "shop", "name": "emails"},
        "app": "shop",
        "worker": {"concurrency": 2, **document.pop("worker", {})},
        "liveness": {"port": 8787, "stalledSeconds": 60},
        "drain": {"timeoutSeconds": 300},
        **document,
    }
    config = contract.parse(json.dumps(full))
    environment = contract.Environment(pod_name="pod-1", broker_url="redis://:secret@redis:6379/0")
    laid = settings.compute(config, environment, own)
    values = {**own, **{it.name: it.value for it in laid}}
    delivering = Delivering(has_leases=True, default_lease_seconds=60, default_max_deliveries=5, held_at_most=3)
    return {it.name: (it.value, it.source.value) for it in effective.compute(config, own, laid, values, delivering)}


@pytest.mark.parametrize(
    ("document", "own", "name", "expected"),
    [
        pytest.param({"timeLimits": {"hardSeconds": 9}}, {}, "task_time_limit", (9, "pool"), id="the pool says"),
        pytest.param(
            {"timeLimits": {"hardSeconds": 9}}, {"task_time_limit": 5}, "task_time_limit", (9, "pool"), id="both say"
        ),
        pytest.param({}, {"task_time_limit": 5}, "task_time_limit", (5, "app"), id="the application says"),
        pytest.param({}, {}, "task_acks_late", (True, "celeriac"), id="nobody says, Celeriac has a default"),
        pytest.param({}, {}, "task_time_limit", (None, "celery"), id="nobody says at all"),
        pytest.param({}, {}, "worker_pool", ("prefork", "celery"), id="Celery's own pool"),
        pytest.param({}, {"worker_pool": "threads"}, "worker_pool", ("threads", "app"), id="the application's pool"),
        pytest.param({"worker": {"pool": "solo"}}, {}, "worker_pool", ("solo", "pool"), id="the pool's pool"),
        pytest.param({}, {}, "delivery.leaseSeconds", (60, "celeriac"), id="the default lease"),
        pytest.param(
            {"delivery": {"leaseSeconds": 9}}, {}, "delivery.leaseSeconds", (9, "pool"), id="the pool's lease"
        ),
        pytest.param({"queues": ["a", "b"]}, {}, "queues", ("a, b", "pool"), id="the pool's queues"),
        pytest.param({}, {}, "messages held at most", (3, "celeriac"), id="the default prefetch"),
        pytest.param({"worker": {"prefetch": 1}}, {}, "messages held at most", (3, "pool"), id="the pool's prefetch"),
        pytest.param(
            {}, {"worker_prefetch_multiplier": 4}, "messages held at most", (3, "app"), id="the application's prefetch"
        ),
        pytest.param(
            {}, {"worker_log_format": "%(message)s"}, "logging.workerFormat", ("%(message)s", "app"), id="its format"
        ),
        pytest.param({}, {}, "broker_url", ("redis://**@redis:6379/0", "pool"), id="a URL without its password"),
        pytest.param({"sentry": {"dsnFile": "/d"}}, {}, "sentry.dsnFile", ("/d", "pool"), id="where the DSN is"),
    ],
)
def test_whose_word_a_setting_is(
    document: dict[str, Any], own: dict[str, Any], name: str, expected: tuple[Any, str]
) -> None:
    assert compute(document, **own)[name] == expected


# --- the facts of an application


def read(document: dict[str, Any] | None = None, **conf: Any) -> Facts:
    app = Celery("unit", broker="redis://", set_as_current=False)
    app.conf.update(conf)

    @app.task(name="plain", shared=False)
    def plain() -> None:
        """Says nothing about itself."""

    @app.task(name="own", shared=False, acks_late=False, time_limit=9, default_retry_delay=7)
    def own() -> None:
        """Has words of its own."""

    config = contract.parse(
        json.dumps(
            {
                "version": 1,
                "pool": {"namespace": "shop", "name": "emails"},
                "app": "shop",
                "worker": {"concurrency": 2},
                "liveness": {"port": 8787, "stalledSeconds": 60},
                "drain": {"timeoutSeconds": 300},
                **(document or {}),
            }
        )
    )
    environment = contract.Environment(pod_name="-")
    return examination.read_facts(Start(app=app, config=config, environment=environment, own=conf, laid=[]))


def test_a_task_that_says_nothing_has_the_settings() -> None:
    found = {it.name: it for it in read(task_acks_late=True, task_time_limit=60).tasks}
    assert {"plain", "own"} <= set(found)  # and whatever other tests have shared with all applications
    assert (found["plain"].acks_late, found["plain"].hard_limit_seconds) == (True, 60)
    assert (found["own"].acks_late, found["own"].hard_limit_seconds) == (False, 9)
    assert found["own"].longest_retry_delay_seconds == 7


@pytest.mark.parametrize(
    ("document", "conf", "held"),
    [
        pytest.param({}, {"task_acks_late": True}, 1, id="Celeriac's default"),
        pytest.param({"worker": {"concurrency": 2, "prefetch": 7}}, {"task_acks_late": True}, 7, id="the pool's"),
        pytest.param({}, {"task_acks_late": True, "worker_prefetch_multiplier": 4}, 6, id="the application's"),
        pytest.param({}, {"worker_prefetch_multiplier": 4}, 8, id="early acknowledgement: the whole window"),
        pytest.param({}, {"worker_prefetch_multiplier": 0}, None, id="without limit"),
        pytest.param({"worker": {"concurrency": 2, "prefetch": 0}}, {}, 0, id="none"),
    ],
)
def test_messages_held_beyond_the_running_ones(document: dict[str, Any], conf: dict[str, Any], held: int) -> None:
    assert read(document, **conf).held_beyond_running == held


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        pytest.param({}, ("redis", True, 3600.0), id="Redis"),
        pytest.param({"broker_transport": "shop.transport:T"}, ("shop.transport:T", False, None), id="one of its own"),
        pytest.param({"broker_url": "sqs://"}, ("sqs", False, 1800.0), id="SQS"),
        pytest.param({"broker_url": "redis+socket:///r"}, ("redis", True, 3600.0), id="a socket of Redis"),
        pytest.param({"broker_url": ["rediss://a", "rediss://b"]}, ("rediss", True, 3600.0), id="several URLs"),
        pytest.param(
            {"broker_url": "sqs://", "broker_transport_options": {"visibility_timeout": 9}},
            ("sqs", False, 9.0),
            id="a time-out of its own",
        ),
    ],
)
def test_what_the_broker_does(conf: dict[str, Any], expected: tuple[str, bool, float | None]) -> None:
    found = read(None, **conf)
    assert (found.broker, found.has_leases, found.visibility_timeout_seconds) == expected


# --- processes


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with dumb-init, a shell with a trap, a worker and one of its children."""
    trap = f"{1 << (signal.SIGTERM - 1):016x}"
    for pid, parent, caught, arguments in (
        (1, 0, "0", ("/usr/bin/dumb-init", "--", "sh")),
        (7, 1, trap, ("-sh", "-c", "python -m celeriac worker")),
        (8, 7, "0", ("/usr/local/bin/python3", "-m", "celeriac", "worker")),
        (9, 8, "0", ("/usr/local/bin/python3", "-m", "celeriac", "worker")),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "status").write_text(f"Name:\tx\nPPid:\t{parent}\nSigCgt:\t{caught}\n")
        (tmp_path / str(pid) / "cmdline").write_bytes("\0".join(arguments).encode() + b"\0")
    (tmp_path / "meminfo").write_text("")
    return tmp_path


def test_the_worker_and_what_stands_above_it_are_found(proc: Path) -> None:
    worker = ancestry.find_worker(proc)
    assert worker == 8
    assert [(it.pid, it.name, it.catches_sigterm) for it in ancestry.above(worker, proc)] == [
        (7, "sh", True),
        (1, "dumb-init", False),
    ]


def test_a_process_that_is_gone_ends_the_list(proc: Path) -> None:
    (proc / "1" / "status").unlink()
    assert [it.pid for it in ancestry.above(8, proc)] == [7]
    assert ancestry.above(99, proc) == ()


@pytest.mark.parametrize(
    ("arguments", "is_worker"),
    [
        pytest.param(("python", "-m", "celeriac", "worker"), True, id="the module"),
        pytest.param(("/opt/venv/bin/python3.12", "/run/celeriac/launch.py", "worker"), True, id="an injected copy"),
        pytest.param(("python", "-m", "celeriac", "doctor"), False, id="the doctor itself"),
        pytest.param(("sh", "-c", "python -m celeriac worker"), False, id="the shell that starts it"),
        pytest.param(("tini", "--", "python", "-m", "celeriac", "worker"), False, id="the init that starts it"),
        pytest.param((), False, id="a kernel thread"),
    ],
)
def test_which_process_is_the_worker(arguments: tuple[str, ...], is_worker: bool) -> None:
    assert ancestry.is_worker(arguments) is is_worker


# --- what is printed


def test_the_text_names_values_sources_and_findings() -> None:
    finding = rules.Finding(code="early-acks", severity="error", message="it will be lost")
    held = [
        Effective(name="task_time_limit", value=None, source=Source.CELERY),
        Effective(name="task_time_limit", value=9, source=Source.TASK, task="shop.send"),
    ]
    assert command.build_text([finding], held).splitlines() == [
        "setting                       value  from",
        "task_time_limit               -      celery",
        "task_time_limit of shop.send  9      task",
        "",
        "error: it will be lost (early-acks)",
        "1 errors, 0 warnings",
    ]


def test_the_json_has_versions_settings_and_findings() -> None:
    held = [Effective(name="result_expires", value=3, source=Source.POOL)]
    printed = json.loads(command.build_json([], held))
    assert set(printed["versions"]) == {"celeriac", "celery", "kombu", "redis"}
    assert printed["settings"] == [{"name": "result_expires", "value": 3, "source": "pool", "task": None}]
    assert printed["findings"] == []


def test_a_value_of_another_type_is_shown_as_text() -> None:
    laid = [Setting("result_expires", object, Source.DEFAULT)]
    delivering = Delivering(has_leases=False, default_lease_seconds=1, default_max_deliveries=1, held_at_most=1)
    config = contract.parse((Path(__file__).parents[3] / "golden" / "contract" / "minimal.json").read_text())
    rows = effective.compute(config, {}, laid, {"result_expires": object}, delivering)
    assert next(it.value for it in rows if it.name == "result_expires") == "<class 'object'>"
