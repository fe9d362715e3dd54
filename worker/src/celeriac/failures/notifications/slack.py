"""How is a message sent to Slack, even if Slack is unreachable for a while?

One thread of the worker's parent process posts to an incoming webhook. Reporting a failure only adds it to the digest:
no task waits for Slack, and none fails because of it. A message that could not be sent is retried with growing pauses,
together with newer failures, until the worker ends. A worker that shuts down tries once more.

    waits for a failure → gathers → posts ─┬─ accepted: rests for the interval
                              ↑            └─ not accepted: joins what came meanwhile, pauses ─┐
                              └────────────────────────────────────────────────────────────────┘

If Slack refuses a message because of its content (400, 413, 422), it would refuse it again, together with all newer
failures. Therefore its details are written to the worker's log, and only the number of its failures is sent.

Limits: each worker counts separately, so a pool of ten may send ten messages in an interval. If the worker's process is
killed, waiting messages are lost. If the response to a message is lost, the message is sent twice.

The webhook's URL is a secret: everybody who has it can write to the channel. It is in a file (a mounted Secret) that is
read for each message, so that it can be renewed while the worker runs. It never appears in a log line or an exception.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from celeriac.backoff import Retry
from celeriac.exits import scrub
from celeriac.failures.notifications import grouping
from celeriac.failures.notifications.grouping import Digest, MessagePace, Origin
from celeriac.failures.reporter import Failure
from celeriac.loop import Loop

logger = logging.getLogger(__name__)

POST_SECONDS: Final = 10.0
"""Maximum time that Slack may take to respond."""
FLUSH_SECONDS: Final = 5.0
"""Maximum time that a worker waits for its last message when it shuts down."""
PATIENCE: Final = Retry(max_retries=None, initial_seconds=1.0, max_seconds=60.0)
LONGEST_PAUSE_SECONDS: Final = 900.0
"""Upper limit of a pause, even if `Retry-After` asks for more."""
REFUSED_FOR_GOOD: Final = frozenset({400, 413, 422})
"""Status codes that concern the message: invalid_payload, msg_too_long, or a body that is too large."""
LONGEST_LOOK: Final = 10_000
"""Characters of an exception's text that are processed. Far fewer are shown."""


class NotSentError(Exception):
    """A message was not accepted. The text says why, but never contains the URL."""

    def __init__(self, why: str, retry_after_seconds: float = 0.0, *, is_refused_for_good: bool = False) -> None:
        super().__init__(why)
        self.retry_after_seconds = retry_after_seconds
        self.is_refused_for_good = is_refused_for_good
        """Whether the same message would be refused again."""


class SlackReporter:
    """Sends failures to a channel. It accepts every failure and never blocks its caller.

    Args:
        webhook_file: file with the webhook's URL. It may be missing, and may change at any time.
        origin: named at the start of each message.
        secrets: URLs whose passwords must not be shown, in case an exception quotes them.
        pace: how often it may send a message.
        apart: entered by its thread, to hide the requests from tools that watch this process: the webhook is a secret.
    """

    def __init__(
        self,
        webhook_file: str,
        origin: Origin,
        *,
        secrets: Iterable[str | None] = (),
        pace: MessagePace = MessagePace(),  # noqa: B008 - frozen
        apart: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self.webhook_file = webhook_file
        self.origin = origin
        self.secrets = tuple(secrets)
        self.pace = pace
        self.apart = apart
        self._changed = threading.Condition()
        # All attributes below are protected by the condition.
        self._waiting: Digest | None = None
        self._due = 0.0
        self._last_sent: float | None = None
        self._attempts = 0
        self._sending: Digest | None = None
        self._is_urgent = False
        self._trouble = ""
        self._is_stopped = False
        self._loop = Loop(self._send_apart, name="slack", seconds=0)

    def start(self) -> None:
        """Start to send, in a thread of this process only. The children of a pool do not report here."""
        try:
            read_webhook(self.webhook_file)
        except NotSentError as error:
            self._say(str(error))
        self._is_stopped = False
        self._loop.start()

    def stop(self) -> None:
        """Stop sending. Waiting failures are not sent."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._loop.stop()

    def report(self, failure: Failure) -> None:
        """Add a failure that only the parent process has seen."""
        try:
            detail = scrub(_described(failure.error), self.secrets)
            one = grouping.failure(failure.kind, failure.task_name, failure.task_id, detail, at=time.time())
            with self._changed:
                if self._waiting is None and self._sending is None:
                    self._due = self.pace.due_at(time.monotonic(), self._last_sent)
                self._waiting = grouping.merge(self._waiting, one)
                self._changed.notify_all()
        except Exception:  # a notification must never make a worker fail
            logger.warning("notifications: could not record a failure of %s", failure.task_name, exc_info=True)

    raised = report
    """Add an exception of a task. There is no difference here."""

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send what is waiting now, in one attempt that takes at most `seconds`."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._is_urgent = True
            self._changed.notify_all()
            while self._is_unsettled() and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            self._is_urgent = False
            untold = sum(digest.count for digest in (self._waiting, self._sending) if digest)
        if untold:
            logger.warning("notifications: the worker ends, and %d failure(s) were not sent", untold)

    def run_once(self) -> bool:
        """Wait until a message is due and try to send it. True if it was accepted."""
        digest = self._next()
        if digest is None:
            return False
        try:
            post(read_webhook(self.webhook_file), grouping.text(digest, self.origin))
        except NotSentError as error:
            self._keep(digest, error)
            return False
        except Exception as error:  # an unexpected error must not end the thread
            self._keep(digest, NotSentError(f"{type(error).__name__} while sending"))
            return False
        if self._trouble:
            logger.info("notifications: messages reach Slack again")
        with self._changed:
            self._trouble, self._attempts, self._sending = "", 0, None
            self._last_sent = time.monotonic()
            self._due = self.pace.due_at(self._last_sent, self._last_sent)
            self._changed.notify_all()
        return True

    def _send_apart(self) -> None:
        with self.apart():
            self.run_once()

    def _next(self) -> Digest | None:
        """Wait until a message is due; `None` if sending has been stopped."""
        with self._changed:
            while (digest := self._waiting) is None or (not self._is_urgent and time.monotonic() < self._due):
                if self._is_stopped:
                    return None
                self._changed.wait(None if digest is None else max(0.0, self._due - time.monotonic()))
            self._waiting, self._is_urgent, self._sending = None, False, digest
            return digest

    def _is_unsettled(self) -> bool:
        return self._sending is not None or (self._is_urgent and self._waiting is not None)

    def _keep(self, digest: Digest, error: NotSentError) -> None:
        if error.is_refused_for_good and digest.groups:
            refused = grouping.text(digest, self.origin).replace("\n", " ")
            logger.warning("notifications: %s to this message, which is not sent again: %s", error, refused)
            digest = digest.without_details()
        else:
            self._say(str(error))
        pause = max(PATIENCE.delay_seconds(self._attempts, random.random()), error.retry_after_seconds)  # noqa: S311
        with self._changed:
            self._attempts += 1
            self._waiting = grouping.merge(digest, self._waiting)
            self._due = time.monotonic() + min(pause, LONGEST_PAUSE_SECONDS)
            self._sending = None
            self._changed.notify_all()

    def _say(self, trouble: str) -> None:
        """Log a problem once, not for each attempt."""
        if trouble != self._trouble:
            self._trouble = trouble
            logger.warning("notifications: %s; workers continue, and messages wait", trouble)


def read_webhook(path: str) -> str:
    """Read the webhook's URL.

    Raises:
        NotSentError: the file is missing or empty, or does not contain a valid URL.
    """
    try:
        url = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        url = ""
    if not url:
        raise NotSentError(f"there is no webhook in {path}")
    if not is_webhook(url):
        raise NotSentError(f"what is in {path} is not the URL of a webhook")
    return url


def is_webhook(url: str) -> bool:
    """Whether `url` is valid for a POST request."""
    if not url.isascii() or any(character.isspace() or not character.isprintable() for character in url):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def post(url: str, text: str) -> None:
    """Send one message to an incoming webhook.

    Raises:
        NotSentError: it was not accepted.
    """
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - http or https
    try:
        with _opener().open(request, timeout=POST_SECONDS) as answer:
            answer.read(100)
    except urllib.error.HTTPError as error:
        with error:
            refusal = NotSentError(
                f"Slack answers {error.code}{_words(error)}",
                _seconds(error.headers.get("Retry-After")),
                is_refused_for_good=error.code in REFUSED_FOR_GOOD,
            )
    except (OSError, http.client.HTTPException, ValueError) as error:
        # Show only the operating system's message: the messages of other errors quote the URL.
        inner = getattr(error, "reason", error)
        said = inner.strerror if isinstance(inner, OSError) and inner.strerror else type(inner).__name__
        refusal = NotSentError(f"Slack cannot be reached ({said})")
    else:
        return
    raise refusal  # outside the handlers, so that no traceback contains the URL


class _Stay(urllib.request.HTTPRedirectHandler):
    """Refuses redirects. A webhook does not redirect."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _opener() -> urllib.request.OpenerDirector:
    # Built for each message, because it reads the proxy variables. Messages are rare.
    return urllib.request.build_opener(_Stay)


def _words(error: urllib.error.HTTPError) -> str:
    """Slack's error code: no_service, invalid_token, channel_is_archived ..."""
    said = ""
    with contextlib.suppress(OSError, http.client.HTTPException):
        said = error.read(60).decode("ascii", "replace").strip()
    return f" {said}" if said.replace("_", "").isalnum() else ""


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.strip().isdecimal() else 0.0


def _described(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # the `__str__` of an application's own exception may raise
        said = ""
    return f"{type(error).__name__}: {said}"[:LONGEST_LOOK] if said else type(error).__name__
