"""How does a message get into Slack, whatever state Slack is in?

One thread of the worker's parent process posts to an incoming webhook. Whoever reports a failure only adds it to the
digest: no task waits for Slack, and none fails because of it. What could not be sent is tried again, with growing
pauses and together with what has failed meanwhile, as long as the worker runs. A worker that leaves tries once more.

    waits for a failure → gathers → posts ─┬─ accepted: rests for the interval
                              ↑            └─ not accepted: joins what came meanwhile, pauses ─┐
                              └────────────────────────────────────────────────────────────────┘

A message that Slack refuses for what it says (400, 413, 422) would be refused again, and with it all that joins it. So
its details go to the worker's log, and only the number of its failures is sent.

Limits: each worker counts and paces by itself, so a pool of ten may send ten messages in an interval; what waits when
the worker's own process is killed is lost; and a message whose answer was lost is sent twice.

The webhook's URL is a secret: whoever has it can write into the channel. It is in a file (a mounted Secret) that is
read for each message, so that it can be renewed while the worker runs, and it appears in no log line and no exception.
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
"""Slack may take so long to answer."""
FLUSH_SECONDS: Final = 5.0
"""A worker that leaves waits so long for its last message."""
PATIENCE: Final = Retry(max_retries=None, initial_seconds=1.0, max_seconds=60.0)
LONGEST_PAUSE_SECONDS: Final = 900.0
"""Whatever `Retry-After` asks for."""
REFUSED_FOR_GOOD: Final = frozenset({400, 413, 422})
"""Status codes that are about the message: invalid_payload, msg_too_long, too large a body."""
LONGEST_LOOK: Final = 10_000
"""Characters of an exception's text that are looked at; far fewer are shown."""


class NotSentError(Exception):
    """A message was not taken; the text says why, and never where it should have gone."""

    def __init__(self, why: str, retry_after_seconds: float = 0.0, *, is_refused_for_good: bool = False) -> None:
        super().__init__(why)
        self.retry_after_seconds = retry_after_seconds
        self.is_refused_for_good = is_refused_for_good
        """The same message would be refused again."""


class SlackReporter:
    """Tells a channel of failures; takes all of them, and is never in anybody's way.

    Args:
        webhook_file: holds the webhook's URL. It may be missing, and may change at any time.
        origin: stands at the head of each message.
        secrets: URLs whose passwords must not be shown, should an exception quote them.
        pace: how often it may speak.
        apart: entered by its thread, to be seen by nobody who watches what this process does: the webhook is a secret.
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
        # All below belong to whoever holds the condition.
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
        """Send from now on, in a thread of this process alone: a pool's children report nothing here."""
        try:
            read_webhook(self.webhook_file)
        except NotSentError as error:
            self._say(str(error))
        self._is_stopped = False
        self._loop.start()

    def stop(self) -> None:
        """Send no more; what waits is not sent."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._loop.stop()

    def report(self, failure: Failure) -> None:
        """Take note of what only the parent process has seen."""
        try:
            detail = scrub(_described(failure.error), self.secrets)
            one = grouping.failure(failure.kind, failure.task_name, failure.task_id, detail, at=time.time())
            with self._changed:
                if self._waiting is None and self._sending is None:
                    self._due = self.pace.due_at(time.monotonic(), self._last_sent)
                self._waiting = grouping.merge(self._waiting, one)
                self._changed.notify_all()
        except Exception:  # telling people must never be the reason that a worker fails
            logger.warning("notifications: could not take note of a failure of %s", failure.task_name, exc_info=True)

    raised = report
    """Take note of what a task has raised: here it makes no difference."""

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send what is waiting now, in one attempt and for at most so long."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._is_urgent = True
            self._changed.notify_all()
            while self._is_unsettled() and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            self._is_urgent = False
            untold = sum(digest.count for digest in (self._waiting, self._sending) if digest)
        if untold:
            logger.warning("notifications: the worker ends, and %d failure(s) were not told", untold)

    def run_once(self) -> bool:
        """Wait until a message is due and try to send it; was it taken?"""
        digest = self._next()
        if digest is None:
            return False
        try:
            post(read_webhook(self.webhook_file), grouping.text(digest, self.origin))
        except NotSentError as error:
            self._keep(digest, error)
            return False
        except Exception as error:  # the thread must not end for what nobody has thought of
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
        """Wait until a message is due; `None` when nothing is sent any more."""
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
        """Once for each trouble, not for each attempt."""
        if trouble != self._trouble:
            self._trouble = trouble
            logger.warning("notifications: %s; workers go on, and messages wait", trouble)


def read_webhook(path: str) -> str:
    """The webhook's URL.

    Raises:
        NotSentError: there is none, or it is no URL.
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
    """Could one post to it?"""
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
        NotSentError: it was not taken.
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
        # Only what the system says: the texts of the other kinds quote the URL.
        inner = getattr(error, "reason", error)
        said = inner.strerror if isinstance(inner, OSError) and inner.strerror else type(inner).__name__
        refusal = NotSentError(f"Slack cannot be reached ({said})")
    else:
        return
    raise refusal  # outside of the handlers: no traceback leads to the URL


class _Stay(urllib.request.HTTPRedirectHandler):
    """A webhook does not redirect; what claims otherwise gets no message."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _opener() -> urllib.request.OpenerDirector:
    # Made for each message: it reads the proxy's variables, and they are rare.
    return urllib.request.build_opener(_Stay)


def _words(error: urllib.error.HTTPError) -> str:
    """The one word with which Slack explains itself: no_service, invalid_token, channel_is_archived ..."""
    said = ""
    with contextlib.suppress(OSError, http.client.HTTPException):
        said = error.read(60).decode("ascii", "replace").strip()
    return f" {said}" if said.replace("_", "").isalnum() else ""


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.strip().isdecimal() else 0.0


def _described(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # an application's own exception may fail even at this
        said = ""
    return f"{type(error).__name__}: {said}"[:LONGEST_LOOK] if said else type(error).__name__
