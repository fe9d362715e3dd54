"""Which failures reach a channel, over the webhook's own protocol; and that no task waits for it.

`row` names the row of docs/operations/notifications.md that a test covers; a unit test compares the two sets.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.observability.rows import row
from tests.receivers.sentry_receiver import Receiver
from tests.receivers.slack_receiver import Refusal, SlackReceiver
from tests.waiting import eventually

from celeriac.failures.notifications.grouping import MessagePace, Origin
from celeriac.failures.notifications.slack import POST_SECONDS, SlackReporter, is_webhook
from celeriac.failures.reporter import Failure

POOLS = ("prefork", "gevent")
"""Tasks in other processes, and in this one with its threads replaced; what holds in both holds in the others."""
QUICK = MessagePace(gather_seconds=0.05, interval_seconds=0.05)
SECRET = "sesame"
"""What every webhook here has in it, and nobody may see."""


@pytest.fixture
def slack() -> Iterator[SlackReceiver]:
    server = SlackReceiver()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.silent.clear()
    server.shutdown()
    server.server_close()


@pytest.fixture
def webhook_file(tmp_path: Path, slack: SlackReceiver) -> Path:
    path = tmp_path / "webhook"
    path.write_text(f"{slack.webhook}\n")
    return path


def section(webhook_file: Path) -> dict[str, Any]:
    return {"slack": {"webhookFile": str(webhook_file)}}


def told(slack: SlackReceiver) -> int:
    """How many failures the messages add up to."""
    return sum(int(count) for count in re.findall(r"(\d+) failures?", "\n".join(slack.messages)))


# --- a real worker


@pytest.mark.parametrize("pool", POOLS)
def test_a_failure_is_told_at_once_and_a_flood_after_it_in_one_message_with_its_count(
    pool: str, start_worker: StartWorker, producer: Celery, slack: SlackReceiver, webhook_file: Path
) -> None:
    worker = start_worker("failing:app", worker={"pool": pool}, notifications=section(webhook_file)).until_ready()
    first = producer.send_task("failing.plain", kwargs={"secret": "hunter2"})
    eventually(lambda: slack.messages, what="the first message")
    for result in [producer.send_task("failing.plain") for _ in range(60)]:
        with pytest.raises(ValueError, match="it broke"):
            result.get(timeout=30)
    assert slack.attempts == 1, "a flood is told once in an interval"
    worker.terminate()
    assert worker.wait() == 0
    one, flood = slack.messages
    assert re.fullmatch(
        rf"\*default/plain\* on pod-1: 1 failure since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n"
        rf"• `failing\.plain` failed \(`{first.id}`\): `ValueError: it broke`",
        one,
    )
    assert "on pod-1: 60 failures since" in flood
    assert re.search(
        r"^• 60 × `failing\.plain` failed \(last: `[0-9a-f-]+`\): `ValueError: it broke`$", flood, re.MULTILINE
    )
    assert "hunter2" not in one
    assert SECRET not in worker.logs()


@row("an exception, retries that are used up, the soft time limit")
@row("the hard time limit")
@row("a child that was killed, out of memory too")
@row("a dead letter")
@row("a task that the worker does not know")
@row("a message that cannot be read")
@row("`Retry`, `Ignore`, `Reject`, a revoked task, what a task declares in `throws`")
def test_each_way_to_fail_is_told_once_and_what_is_no_failure_is_not(
    start_worker: StartWorker, producer: Celery, slack: SlackReceiver, webhook_file: Path
) -> None:
    worker = start_worker(
        "failing:app",
        worker={"pool": "prefork"},
        delivery={"maxDeliveries": 1},
        notifications=section(webhook_file),
    ).until_ready()
    expected = {
        "retries": "`failing.retries` failed",
        "soft": "`failing.soft` failed",
        "hard": "`failing.hard` was ended at its hard time limit",
        "dies": "`failing.dies` lost its process",
        "nowhere": "a message of `failing.nowhere` is in the dead-letter queue",
    }
    sent = {name: producer.send_task(f"failing.{name}") for name in expected}
    with producer.connection_for_write() as connection:
        connection.Producer().publish(
            b"\xff no json",
            routing_key="celery",
            content_type="application/json",
            content_encoding="utf-8",
            headers={"task": "failing.fine", "id": "1-2-3"},
        )
    for name in ("ignored", "rejected", "expected", "retried_once"):
        producer.send_task(f"failing.{name}")
    assert producer.control.revoke("unwanted", reply=True, timeout=10, limit=1)
    producer.send_task("failing.plain", task_id="unwanted")
    worker.until_logged("Discarding revoked task")
    for name in ("retries", "soft", "hard", "dies"):
        sent[name].get(timeout=15, propagate=False)
    worker.until_logged(r"dead-lettered the message of task failing\.nowhere")
    worker.until_logged("failing.retried_once.* succeeded")
    producer.send_task("failing.fine").get(timeout=15)
    worker.terminate()
    assert worker.wait() == 0
    lines = [line for message in slack.messages for line in message.splitlines()[1:]]
    told = {line.partition("): ")[0] for line in lines}
    assert told == {f"• {said} (`{sent[name].id}`" for name, said in expected.items()} | {
        "• a message of `failing.fine` is in the dead-letter queue (`1-2-3`"
    }
    assert len(lines) == len(told)


def test_no_task_waits_for_a_slack_that_does_not_answer_and_the_worker_leaves_in_order(
    start_worker: StartWorker, producer: Celery, slack: SlackReceiver, webhook_file: Path
) -> None:
    slack.silent.set()
    worker = start_worker("failing:app", notifications=section(webhook_file)).until_ready()
    producer.send_task("failing.plain")
    eventually(lambda: slack.attempts, what="an attempt to send")
    for _ in range(20):
        assert producer.send_task("failing.fine").get(timeout=5) == "fine"
    assert (slack.attempts, slack.messages) == (1, [])
    worker.terminate()
    assert worker.wait() == 0
    assert "1 failure(s) were not sent" in worker.logs()
    assert SECRET not in worker.logs()


@row("there is no webhook, or no URL in the Secret")
def test_a_webhook_that_comes_later_is_used_without_a_restart_and_what_failed_before_is_told(
    start_worker: StartWorker, producer: Celery, slack: SlackReceiver, webhook_file: Path
) -> None:
    webhook_file.write_text("not a url sesame")
    worker = start_worker("failing:app", notifications=section(webhook_file)).until_ready()
    worker.until_logged("notifications: .* workers continue, and messages wait")
    producer.send_task("failing.plain")
    producer.send_task("failing.fine").get(timeout=15)
    fresh = webhook_file.with_suffix(".new")
    fresh.write_text(slack.webhook)
    fresh.replace(webhook_file)
    eventually(lambda: told(slack), what="the failure is told", timeout=20)
    assert told(slack) == 1
    worker.until_logged("notifications: messages reach Slack again")
    assert worker.logs().count("messages wait") == 1
    assert SECRET not in worker.logs()


def test_the_webhook_reaches_no_event_of_sentry(
    start_worker: StartWorker, producer: Celery, slack: SlackReceiver, webhook_file: Path, tmp_path: Path
) -> None:
    """The SDK notes each HTTP request of a process among an event's breadcrumbs and spans."""
    sentry = Receiver("127.0.0.1", 0)
    threading.Thread(target=sentry.serve_forever, daemon=True).start()
    dsn_file = tmp_path / "dsn"
    dsn_file.write_text(f"http://public@127.0.0.1:{sentry.server_port}/1")
    worker = start_worker(
        "failing:app",
        worker={"pool": "solo"},
        sentry={"dsnFile": str(dsn_file), "tracesSampleRate": 1.0},
        notifications=section(webhook_file),
    ).until_ready()
    producer.send_task("failing.plain")
    eventually(lambda: slack.messages, what="a message")
    producer.send_task("failing.plain")
    producer.send_task("failing.fine").get(timeout=15)
    worker.terminate()
    assert worker.wait() == 0
    events, transactions = sentry.received.all("event"), sentry.received.all("transaction")
    sentry.shutdown()
    sentry.server_close()
    assert len(events) == 2
    assert len(transactions) == 3
    assert SECRET not in str(events + transactions)


# --- the sender alone, in a hurry


class BadlyWrittenError(Exception):
    """Cannot even say what is wrong."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def fail(slack: SlackReporter, task: str = "shop.send", error: BaseException | None = None) -> None:
    slack.raised(
        Failure(error=error or ValueError("it broke"), kind="exception", task_name=task, task_id="1", args=("hunter2",))
    )


@pytest.fixture
def sender(webhook_file: Path) -> SlackReporter:
    origin = Origin(namespace="shop", pool="emails", pod="pod-1")
    made = SlackReporter(str(webhook_file), origin, secrets=["redis://:opensesame@redis"], pace=QUICK)
    made.start()
    return made


@row("Slack is away, hangs or answers with an error")
@row("a redirect")
@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        pytest.param(Refusal(429, "rate_limited", retry_after="1"), "Slack answers 429 rate_limited", id="too many"),
        pytest.param(Refusal(404, "no_service"), "Slack answers 404 no_service", id="a webhook that was revoked"),
        pytest.param(Refusal(410, "channel_is_archived"), "410 channel_is_archived", id="a channel that is archived"),
        pytest.param(Refusal(500, "<html>sesame</html>"), "Slack answers 500;", id="an answer that is none of Slack's"),
        pytest.param(Refusal(302, "", location="http://127.0.0.1:9/sesame"), "Slack answers 302", id="a redirect"),
    ],
)
def test_a_message_that_is_not_taken_is_kept_and_joined_by_what_comes_meanwhile(
    refusal: Refusal, said: str, sender: SlackReporter, slack: SlackReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "celeriac.failures.notifications")
    slack.refusals.append(refusal)
    fail(sender)
    eventually(lambda: slack.attempts, what="the attempt that is refused")
    for _ in range(41):
        fail(sender)
    eventually(lambda: slack.messages, what="the message")
    (message,) = slack.messages
    assert "pod-1: 42 failures since" in message
    eventually(lambda: "reach Slack again" in caplog.text, what="that it is well again")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert said in caplog.text
    assert SECRET not in caplog.text


@row("`400`, `413` or `422`")
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_message_that_is_refused_for_what_it_says_does_not_block_the_next(
    status: int, sender: SlackReporter, slack: SlackReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    slack.refused_text, slack.refused_status = "poison", status
    fail(sender, "poison")
    eventually(lambda: slack.attempts, what="the attempt that is refused")
    fail(sender, "another")
    eventually(lambda: told(slack), lambda it: it == 2, what="both are told")
    assert "`another` failed" in "".join(slack.messages)
    assert "• 1 × in a message that was refused" in "".join(slack.messages)
    assert "`poison` failed" in caplog.text, "the log names it"
    fail(sender, "third")
    eventually(lambda: told(slack), lambda it: it == 3, what="the third one is told")


def test_a_slack_that_is_away_is_tried_again_until_it_is_there(
    webhook_file: Path, sender: SlackReporter, slack: SlackReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    webhook_file.write_text("http://127.0.0.1:9/services/sesame")
    fail(sender)
    eventually(lambda: "cannot be reached (Connection refused)" in caplog.text, what="that it is away")
    webhook_file.write_text(slack.webhook)
    eventually(lambda: told(slack), lambda it: it == 1, what="the message")
    assert SECRET not in caplog.text


@row("`429` with `Retry-After`")
def test_a_pause_that_slack_asks_for_is_kept(sender: SlackReporter, slack: SlackReceiver) -> None:
    slack.refusals.append(Refusal(429, "rate_limited", retry_after="3"))
    fail(sender)
    eventually(lambda: slack.attempts, what="the attempt that is refused")
    before = time.monotonic()
    eventually(lambda: slack.messages, what="the message")
    assert time.monotonic() - before > 2.5


def test_every_failure_is_counted_in_some_message_from_however_many_threads(
    sender: SlackReporter, slack: SlackReceiver
) -> None:
    slack.refusals.extend([Refusal(500, "")])

    def flood(n: int) -> None:
        for i in range(500):
            fail(sender, task=f"task-{n}-{i % 50}")

    threads = [threading.Thread(target=flood, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: told(slack), lambda it: it == 2000, what="all of them")


def test_an_error_that_cannot_be_shown_or_shows_a_password_is_told_without_it(
    sender: SlackReporter, slack: SlackReceiver
) -> None:
    fail(sender, "one", BadlyWrittenError())
    fail(sender, "two", ConnectionError("no way to redis://:opensesame@redis and https://u:p@host/x"))
    eventually(lambda: told(slack), lambda it: it == 2, what="both")
    said = "\n".join(slack.messages)
    assert "• `one` failed (`1`): `BadlyWrittenError`" in said
    assert SECRET not in said
    assert "u:p@" not in said
    assert "hunter2" not in said


@row("the worker leaves")
@pytest.mark.parametrize("standing", [None, Refusal(404, "no_service")], ids=["Slack takes it", "Slack refuses it"])
def test_a_flush_sends_what_waits_in_one_attempt(
    standing: Refusal | None, webhook_file: Path, slack: SlackReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    slack.standing = standing
    origin = Origin(namespace="shop", pool="emails", pod="pod-1")
    sender = SlackReporter(str(webhook_file), origin, pace=MessagePace(gather_seconds=600, interval_seconds=600))
    sender.start()
    sender.flush()
    assert slack.attempts == 0
    fail(sender)
    fail(sender)
    sender.flush()
    assert slack.attempts == 1
    assert told(slack) == (2 if standing is None else 0)
    assert ("2 failure(s) were not sent" in caplog.text) is (standing is not None)


def test_a_flush_is_bounded_when_slack_does_not_answer(
    sender: SlackReporter, slack: SlackReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    slack.silent.set()
    fail(sender)
    before = time.monotonic()
    sender.flush(seconds=0.2)
    assert time.monotonic() - before < POST_SECONDS / 2
    assert "1 failure(s) were not sent" in caplog.text


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        pytest.param("https://hooks.slack.example/services/T0/B0/x", True, id="Slack's"),
        pytest.param("http://mattermost:8065/hooks/x", True, id="that of a server nearby"),
        pytest.param("hooks.slack.example/services/x", False, id="one without a scheme"),
        pytest.param("file:///etc/passwd", False, id="a file"),
        pytest.param("https://", False, id="one without a host"),
        pytest.param("https://host:port/x", False, id="one whose port is not a number"),
        pytest.param("https://host/a b", False, id="one with a space"),
        pytest.param("https://[::1/x", False, id="half an address"),
        pytest.param("https://hööks/x", False, id="one that is not ASCII"),
    ],
)
def test_a_webhook_is_judged(url: str, verdict: bool) -> None:
    assert is_webhook(url) is verdict
