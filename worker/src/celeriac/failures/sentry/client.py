"""How is each failure reported to Sentry exactly once?

The SDK's Celery integration reports exceptions of tasks where they are raised. Its Django integration is active if
Django is installed. Failures that only the parent process sees are passed to `SentryReporter.report`. Log lines in
which Celery repeats these failures, or counts its attempts to connect to a broker, do not become events.

The SDK is set up in the parent before Celery builds its tracers, and again in each child, because the child's transport
must not share sockets with the parent's. The DSN is in a file (a mounted Secret). Each process checks the file every
few seconds and uses a new DSN without a restart. A missing or malformed DSN never stops a worker; it causes one
warning. Options that an application itself passes to `sentry_sdk.init` (`before_send`, integrations, sampling) stay in
force unless the pool sets them. The application may call it at import, or in `celeryd_init`, `worker_init` or
`worker_process_init`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from celery import signals
from celery._state import get_current_task

from celeriac.config import contract
from celeriac.failures.reporter import Failure, queue_of
from celeriac.failures.sentry import records, runs
from celeriac.loop import Loop

logger = logging.getLogger(__name__)

WATCH_SECONDS: Final = 5.0
"""Time between two checks of the DSN file. The kubelet takes about a minute to update the file."""
FLUSH_SECONDS: Final = 5.0
FILTERED: Final = "[Filtered]"

_REPEATERS: Final = (
    "celery.worker.request",  # hard time limit, lost process: reported by the parent itself
    "celeriac.delivery.holdings",  # a message that went to the dead-letter queue: likewise
    "celeriac.hooks.results",  # a result that was given up: its task's failure is reported where it ran
    "celery.worker.consumer.consumer",  # unknown task, decode error, lost broker: likewise, or no failure of a task
    "celery.concurrency.asynpool",
    "celery.pool",
    "multiprocessing",  # billiard, on a child that was killed
    "celery.backends.redis",  # one line for each attempt to reach the result backend
    "celery.backends.base",
)
_DERIVED: Final = {"dsn", "data_collection", "project_root", "instrumenter"}
"""Options that the SDK computes again for each client."""


class SentryReporter:
    """Reports to Sentry from this process and its children, and follows changes of the DSN.

    Args:
        settings: the pool's `sentry` section.
        tags: added to every event; names and values are strings.
    """

    def __init__(self, settings: contract.Sentry, tags: Mapping[str, str]) -> None:
        self.settings = settings
        self.tags = dict(tags)
        self.dsn: str | None = None
        self._pid = os.getpid()
        self._loop = Loop(self._look, name="sentry-dsn", seconds=WATCH_SECONDS)
        self._refused: str | None = None
        self._app_options: dict[str, Any] = {}
        self._sdk: Any = None
        self._client: Any = None
        """The client that was set up here. Any other client belongs to the application."""

    def start(self) -> None:
        """Set up the SDK in this process and check the DSN regularly. Each child is set up automatically."""
        self._sdk = _load_sdk()
        if self._sdk is None:
            return
        from sentry_sdk.integrations.logging import ignore_logger
        from sentry_sdk.scope import Scope

        for name in _REPEATERS:
            ignore_logger(name)
        self._app_options = _options_of_the_application(self._sdk)
        scope = Scope.get_global_scope()  # the first releases of SDK 2 do not export it at the top level
        for name, value in self.tags.items():
            scope.set_tag(name, value)
        scope.add_event_processor(_add_task)
        self._initialise(self._read_dsn() or "")
        runs.install()
        _list_distributions(self._sdk.get_client())
        self._watch()
        signals.task_internal_error.connect(self._internal_error, weak=False, dispatch_uid="celeriac-sentry-internal")
        signals.worker_process_init.connect(self._start_in_child, weak=False, dispatch_uid="celeriac-sentry")
        # These run after the application's own receivers, which were connected when it was imported.
        for signal in (signals.celeryd_init, signals.worker_init, signals.celeryd_after_setup):
            signal.connect(self._take_over, weak=False, dispatch_uid="celeriac-sentry-take-over")

    def run_once(self) -> bool:
        """Check the DSN once. True if a new one is now in use."""
        dsn = self._read_dsn() or ""
        if dsn in {self.dsn, self._refused}:
            return False
        before = self._sdk.get_client()
        changed = self._initialise(dsn)
        if changed:
            logger.info("sentry: the DSN has changed, reporting to the new one")
            before.close(timeout=FLUSH_SECONDS)
        return changed

    def report(self, failure: Failure) -> None:
        """Report a failure that only the parent process has seen."""
        if self._sdk is None:
            return
        try:
            self._capture(failure)
        except Exception:  # reporting must never make a worker fail
            logger.warning("sentry: could not report %s of %s", failure.kind, failure.task_name, exc_info=True)

    def _internal_error(self, sender: Any, task_id: str, exception: BaseException, request: Any, **_: Any) -> None:
        """Report a failure outside the task's own code, which the SDK does not see: its result cannot be stored."""
        queue = queue_of(getattr(request, "delivery_info", None))
        self.report(
            Failure(error=exception, kind="internal-error", task_name=sender.name, task_id=task_id, queue=queue)
        )

    def raised(self, failure: Failure) -> None:
        """Do nothing. The SDK's integration has reported the exception in the process that raised it."""

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send waiting events, for at most `seconds`."""
        if self._sdk is not None:
            self._sdk.flush(timeout=seconds)

    def apart(self) -> AbstractContextManager[Any]:
        """A context that adds nothing to other events, such as a breadcrumb of a request to a secret URL."""
        return contextlib.nullcontext() if self._sdk is None else self._sdk.isolation_scope()

    def _capture(self, failure: Failure) -> None:
        from sentry_sdk.utils import event_from_exception

        event, hint = event_from_exception(
            failure.error,
            client_options=self._sdk.get_client().options,
            mechanism={"type": "celery", "handled": False},
        )
        event["fingerprint"] = ["celeriac", failure.kind, failure.task_name]
        event["transaction"] = failure.task_name
        event["tags"] = _task_tags(failure.task_name, failure.task_id, failure.queue)
        event["extra"] = {
            "celery-job": {
                "task_name": failure.task_name,
                "args": failure.args,  # filtered like the SDK's own
                "kwargs": failure.kwargs,
            }
        }
        self._sdk.capture_event(event, hint=hint)

    def _read_dsn(self) -> str | None:
        try:
            return Path(self.settings.dsn_file).read_text().strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def _initialise(self, dsn: str) -> bool:
        """Set up the SDK with `dsn`. With an empty DSN it sends nothing, but Celery is prepared for a later DSN."""
        from sentry_sdk.utils import BadDsn

        settings = self.settings
        asked = {
            "environment": settings.environment,
            "release": settings.release,
            "traces_sample_rate": settings.traces_sample_rate,
            "send_default_pii": settings.send_default_pii,
        }
        options = {**self._app_options, **{name: value for name, value in asked.items() if value is not None}}
        for name in ("before_send", "before_send_transaction"):
            options[name] = _without_arguments(self._app_options.get(name))
        try:
            with warnings.catch_warnings():
                # The SDK warns about a successor of send_default_pii, which older versions do not have.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._sdk.init(dsn=dsn, **options)
        except BadDsn:
            self._refused = dsn
            logger.warning(
                "sentry: the DSN in %s is malformed, failures are not reported until it is put right", settings.dsn_file
            )
            if self.dsn is None:
                return self._initialise("")
            return False
        if not dsn and self._refused is None and self.dsn is None:
            logger.warning("sentry: there is no DSN in %s, failures are not reported until it comes", settings.dsn_file)
        self._client = self._sdk.get_client()
        self._remember(self._client)
        self.dsn = dsn
        self._refused = None if dsn else self._refused
        return True

    def _take_over(self, **_: Any) -> None:
        """Apply the pool's settings to a client that the application has set up in one of Celery's signals."""
        if self._adopt():
            self._initialise(self.dsn or "")

    def _adopt(self) -> bool:
        """Keep the options of the application's own client, if there is a new one."""
        client = self._sdk.get_client()
        if client is self._client or not client.is_active():
            return False
        self._app_options = _options_of_the_application(self._sdk)
        return True

    def _remember(self, client: Any) -> None:
        """Keep what the SDK has detected, so that no child has to detect it again."""
        # The release that the SDK has read from git or from the environment.
        self._app_options.setdefault("release", client.options.get("release"))
        # The SDK looks for about 40 libraries. For each missing one it tries to import its integration every time.
        found = list(client.integrations.values())
        self._app_options.update(integrations=found, default_integrations=False, auto_enabling_integrations=False)
        records.pass_over(client)

    def _start_in_child(self, **_: Any) -> None:
        if os.getpid() == self._pid:  # the solo pool sends this signal in the parent
            self._take_over()
            return
        self._adopt()
        self._pid = os.getpid()
        self._initialise(self.dsn or "")
        self._watch()

    def _watch(self) -> None:
        self._loop.start()

    def _look(self) -> None:
        with contextlib.suppress(Exception):  # a DSN that cannot be used now is tried again
            self.run_once()

    def stop(self) -> None:
        """Stop checking for a new DSN."""
        self._loop.stop()


def _load_sdk() -> Any:
    try:
        import sentry_sdk
        from sentry_sdk.consts import VERSION
    except ImportError as error:
        logger.warning("sentry: sentry-sdk cannot be imported (%s), failures are not reported", error)
        return None
    if int(VERSION.partition(".")[0]) < 2:
        logger.warning("sentry: the image has sentry-sdk %s, failures are not reported; 2 or later is needed", VERSION)
        return None
    return sentry_sdk


def _list_distributions(client: Any) -> None:
    """Make the SDK list the installed packages for its events now, not at the first failure of each child."""
    if "modules" not in client.integrations:
        return
    # Releases without this function are not changed.
    with contextlib.suppress(ImportError):
        from sentry_sdk.utils import _get_installed_modules

        _get_installed_modules()


def _options_of_the_application(sdk: Any) -> dict[str, Any]:
    """The options that the application itself has passed to `sentry_sdk.init`, if any."""
    from sentry_sdk.consts import DEFAULT_OPTIONS

    client = sdk.get_client()
    if not client.is_active():
        return {}
    return {
        name: value
        for name, value in client.options.items()
        if name in DEFAULT_OPTIONS and name not in _DERIVED and value != DEFAULT_OPTIONS[name]
    }


def _without_arguments(then: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
    """Remove a task's arguments unless the pool allows personal data, then call the application's own function.

    The first releases of SDK 2 always send the arguments.
    """
    from sentry_sdk.scope import should_send_default_pii

    def keep_back(event: Any, hint: Any) -> Any:
        job = (event.get("extra") or {}).get("celery-job")
        if job and not should_send_default_pii():
            job.update(args=FILTERED, kwargs=FILTERED)
        return then(event, hint) if then else event

    return keep_back


def _task_tags(name: str, task_id: str, queue: str | None) -> dict[str, str]:
    tags = {"task": name, "task_id": task_id, "celery_task_id": task_id}
    return {**tags, "queue": queue} if queue else tags


def _add_task(event: Any, _hint: Any) -> Any:
    """Event processor for the SDK that adds the task to an event."""
    task = get_current_task()
    request = getattr(task, "request", None)
    if task is not None and request is not None and request.id:
        tags = event.setdefault("tags", {})
        for name, value in _task_tags(task.name, request.id, queue_of(request.delivery_info)).items():
            tags.setdefault(name, value)
    return event
