"""What does Sentry cost each run if tracing is off?

The SDK's Celery integration opens a transaction and a span for each run and fills them in (it connects to the broker to
learn its kind). If tracing is off, it does the same and discards the result. This costs a few tenths of a millisecond.
This module puts a lighter path in front of the SDK's wrappers. It does what a run without tracing needs: separate
scopes, so that tags, breadcrumbs and users of one run do not leak into the next; the trace of the task's publisher, to
which events and new messages belong; the task on each event; and a report of each exception where it is raised. If
tracing is on, the SDK's wrappers run. This is decided for each run, because an application may set up the SDK again at
any time.

The module uses functions of the SDK where they exist. If a release lacks one of them, its own wrappers stay in place.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Final

INTEGRATION: Final = "sentry_sdk.integrations.celery"
OPERATION: Final = "queue.task.celery"


def install() -> bool:
    """Make the tracers that Celery builds from now on use the lighter path. False if the SDK has not wrapped them."""
    from celery.app import trace

    theirs = trace.build_tracer
    if theirs.__module__ != INTEGRATION:
        return False
    try:
        watch = Watch()
    except (ImportError, AttributeError):  # a release that lacks something
        return False
    trace.build_tracer = watch.tracers(theirs)
    return True


class Watch:
    """The lighter path.

    Raises:
        ImportError, AttributeError: the SDK lacks a function that it needs.
    """

    def __init__(self) -> None:
        import sentry_sdk
        from sentry_sdk.integrations.celery import CeleryIntegration, _capture_exception, _make_event_processor
        from sentry_sdk.scope import Scope
        from sentry_sdk.tracing import Transaction
        from sentry_sdk.tracing_utils import has_tracing_enabled
        from sentry_sdk.utils import capture_internal_exceptions

        self.integration = CeleryIntegration
        self.capture = _capture_exception
        self.event_processor = _make_event_processor
        self.has_tracing = has_tracing_enabled
        self.get_client = sentry_sdk.get_client
        self.isolation_scope = sentry_sdk.isolation_scope
        self.unsampled = _unsampled(Transaction)
        self.get_current_scope = Scope.get_current_scope
        self.quiet = capture_internal_exceptions
        """Suppresses errors, because reporting must never make a task fail."""

    def is_enough(self) -> bool:
        """Whether the lighter path is enough for this run."""
        client = self.get_client()
        return not self.has_tracing(client.options) and client.get_integration(self.integration) is not None

    def tracers(self, theirs: Any) -> Any:
        """Wrap the SDK's `theirs`, the function that builds a task's tracer."""

        @functools.wraps(theirs)
        def build_tracer(name: str, task: Any, *args: Any, **options: Any) -> Any:
            build = functools.partial(theirs, name, task, *args, **options)
            if not getattr(task, "_celeriac_is_watched", False) and not self._wrap_run(task, build):
                return build()
            wrapped = build()
            bare = getattr(wrapped, "__wrapped__", None)
            return wrapped if bare is None else self._tracer(task, wrapped, bare)

        return build_tracer

    def _wrap_run(self, task: Any, build: Callable[[], Any]) -> bool:
        """Put the lighter path around the task's body. False if the SDK's wrapper is not the outermost one."""
        from celery.app.trace import task_has_custom

        if getattr(task, "_sentry_is_patched", False):
            return False
        place, attribute = (type(task), "__call__") if task_has_custom(task, "__call__") else (task, "run")
        before = vars(place).get(attribute)
        build()  # wraps it, once for each task
        wrapped = vars(place).get(attribute)
        bare = getattr(wrapped, "__wrapped__", None)
        if wrapped is before or bare is None:
            return False
        setattr(place, attribute, self._run(task, wrapped, bare))
        task._celeriac_is_watched = True
        return True

    def _run(self, task: Any, wrapped: Any, bare: Any) -> Any:
        @functools.wraps(bare)
        def run(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True  # the SDK hides frames with this variable
            if not self.is_enough():
                return wrapped(*args, **kwargs)
            try:
                return bare(*args, **kwargs)
            except Exception:
                with self.quiet():
                    self.capture(task, sys.exc_info())
                raise

        return run

    def _tracer(self, task: Any, wrapped: Any, bare: Any) -> Any:
        @functools.wraps(bare)
        def tracer(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
            if not self.is_enough():
                return wrapped(uuid, args, kwargs, request)
            with self.isolation_scope() as scope:
                with self.quiet():
                    scope._name = "celery"
                    scope.clear_breadcrumbs()
                    scope.add_event_processor(self.event_processor(task, uuid, args, kwargs, request))
                    headers = (request or {}).get("headers") or {}
                    scope.generate_propagation_context(headers)
                    self.get_current_scope().span = self.unsampled(scope, task.name)
                return bare(uuid, args, kwargs, request)

        return tracer


def _unsampled(base: Any) -> Any:
    """Create the transaction class for runs without tracing: a lazy version of `base`, the SDK's own class.

    The transaction is neither started nor finished, but an application may ask the scope for it. Creating a real one
    takes longer than everything else here, and hardly any run needs it.
    """

    class Unsampled(base):  # type: ignore[misc]  # a class of the SDK's, which may be missing
        __slots__ = ("_scope",)

        def __init__(self: Any, scope: Any, name: str) -> None:
            self._scope = scope
            self.name, self.source = name, "task"  # the scope reads these at once

        def __getattr__(self, name: str) -> Any:
            """Fill all slots when an empty one is read for the first time. The base class keeps its state in slots."""
            if hasattr(type(self), name):
                self._fill()
                return object.__getattribute__(self, name)
            raise AttributeError(name)

        def _fill(self) -> None:
            trace = self._scope._propagation_context  # a dictionary in the first releases of SDK 2
            part = trace.get if isinstance(trace, dict) else functools.partial(getattr, trace)
            super().__init__(
                name=self.name,
                source=self.source,
                op=OPERATION,
                sampled=False,
                trace_id=part("trace_id"),
                parent_span_id=part("parent_span_id"),
                parent_sampled=part("parent_sampled"),
                same_process_as_parent=False,
            )

    return Unsampled
