"""Which messages may reach Celery's own code, and what happens when that code raises?

Celery's worker handles three kinds of exception where it takes a message, and exits on any other; Kubernetes then
starts the next worker, which takes the same message. So each message is checked before Celery gets it, and any
exception that Celery still raises is assigned to the one message that caused it:

    it is delivered once too often dead-lettered (RabbitMQ; on Redis, before it gets here)
    it is not a call of a task     refused: dead-lettered at once on Redis and RabbitMQ, rejected on other brokers
    making its request raises      the same
    handing it to the pool raises  set aside: given back after a delay, which counts a delivery of this message
    recording its end raises       logged; set aside where the message is not settled

An error of the connection is none of these: Celery connects again.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery.exceptions import InvalidTaskError, TaskRevokedError
from celery.worker import state
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.utils.imports import symbol_by_name

from celeriac.delivery.amqp.counted import CountedDeliveries
from celeriac.delivery.refusing import NoRefusals, Refusals
from celeriac.delivery.values import protocol
from celeriac.hooks import drain, requests
from celeriac.printable import printable

logger = logging.getLogger(__name__)

Takers = Refusals | CountedDeliveries | NoRefusals

if TYPE_CHECKING:
    _Consumer = Any  # a Celery consumer class: celery.worker.consumer.Consumer or what the application names
    _Request = Any  # a Celery request class: celery.worker.request.Request or what a task names
else:
    _Consumer = _Request = object


def install(app: Any, refusals: Takers) -> None:
    """Check each message before an application's consumer gets it. Call this before the consumer is made."""
    base = symbol_by_name(app.conf.worker_consumer)
    app.conf.worker_consumer = type("Consumer", (IncomingHooks, base), {"refusals": refusals, "__module__": __name__})


class IncomingHooks(_Consumer):  # type: ignore[misc]  # a class of Celery's, chosen at run time
    """A mixin for a Celery consumer class: the methods that Celery calls for messages.

    The methods for messages that cannot run return true if the message was handled.
    """

    refusals: Takers

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        super().on_connection_error_after_connected(exc)
        self._give_back_cancelled()

    def stop(self) -> None:
        if state.should_terminate not in {None, False}:
            # Celery's SIGQUIT handler has not reached these: it sleeps, which raises in a green pool.
            for request in list(state.active_requests):
                if not (request.acknowledged or request.given_back):
                    request.cancel(self.pool)
        self._give_back_cancelled()
        super().stop()

    def _give_back_cancelled(self) -> None:
        """Give back the messages that Celery cancelled, after the processes that ran them ended: none may run twice."""
        cancelled = self.refusals.take_cancelled()
        if not cancelled:
            return
        drain.end_children(self.controller, cancelled)
        self.refusals.give_back_cancelled(cancelled)

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        self.refusals.attach(self)
        return guarded(super().create_task_handler(*args, **options), self, self.refusals)

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> Any:
        name = (message.headers or {}).get("task") or (message.payload or {}).get("task")
        return self.refusals.return_unknown(message, name) or super().on_unknown_task(body, message, exc)

    def on_decode_error(self, message: Any, exc: BaseException) -> Any:
        return self._refuse(message, exc) or super().on_decode_error(message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> Any:
        if message.body is None:
            message.body = b""  # Celery writes its length into the log
        return self._refuse(message, exc) or super().on_invalid_task(body, message, exc)

    def on_unknown_message(self, body: Any, message: Any) -> Any:
        return self.refusals.refuse(message, "it names no task") or super().on_unknown_message(body, message)

    def _refuse(self, message: Any, error: BaseException) -> bool:
        return self.refusals.refuse(message, str(error) or type(error).__name__)


def guarded(handle: Callable[[Any], Any], consumer: Any, refusals: Takers) -> Callable[[Any], Any]:
    """Wrap Celery's message handler: it gets only messages that it can handle, and never raises because of one.

    Args:
        handle: the handler that Celery's consumer has made.
        consumer: that consumer; its `on_decode_error` and `on_invalid_task` refuse a message.
        refusals: handles messages for which Celery raises.
    """

    def on_task_received(message: Any) -> None:
        if refusals.receive(message):
            return
        error = why_refused(message, consumer.strategies)
        if isinstance(error, DecodeError):
            consumer.on_decode_error(message, error)
        elif error is not None:
            consumer.on_invalid_task(None, message, error)
        else:
            try:
                handle(message)
            except (MemoryError, *consumer.connection_errors, *consumer.channel_errors):
                raise
            except Exception as raised:
                if not refusals.set_aside(message, raised):
                    raise

    return on_task_received


def why_refused(message: Any, tasks: Any) -> Exception | None:
    """Return why a message is not a call of a task, as an exception of Celery or kombu; `None` if it is one.

    The body is not checked if the task is not in `tasks`: another worker may be able to read it.
    """
    fields = message.headers
    if "task" not in fields:
        return _read(message, _why_no_first_protocol)
    why = protocol.why_no_call(fields)
    if why is not None:
        return InvalidTaskError(why)
    _make_id_text(fields)
    return _read(message, protocol.why_no_body) if fields["task"] in tasks else None


def _read(message: Any, why_no: Callable[[Any], str | None]) -> Exception | None:
    """Decode the body and check it; the message keeps the decoded body for Celery."""
    try:
        why = why_no(message.payload)
    except (DecodeError, ContentDisallowed) as error:
        return error
    except Exception as error:  # the serializer may raise anything
        return DecodeError(f"its body cannot be decoded: {printable(repr(error))}")
    return None if why is None else InvalidTaskError(why)


def _why_no_first_protocol(body: Any) -> str | None:
    if not isinstance(body, dict) or "task" not in body:
        return "it names no task"
    why = protocol.why_no_call(body) or protocol.why_no_arguments(body)
    if why is None:
        _make_id_text(body)
    return why


def _make_id_text(fields: dict[str, Any]) -> None:
    """Convert a task's id that is a number or a UUID to text: result backends cannot store a result for other ids."""
    if not isinstance(fields["id"], str):
        fields["id"] = str(fields["id"])


def check_requests(app: Any, refusals: Takers) -> None:
    """Keep the requests of all tasks of an application from raising where Celery does not handle it.

    Call this when all tasks are known and before the consumer is made.
    """
    requests.put_before(app, CheckedRequest, refusals=refusals)


class CheckedRequest(_Request):  # type: ignore[misc]  # a class of Celery's, chosen at run time
    """A mixin for a Celery request class: assigns an exception to the message that caused it."""

    refusals: Takers
    given_back = False
    """Set when the message is given back; the end of the run has no effect after that."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Celery makes a subclass for each task; its methods do not call those of the base class.
        faster = cls.__dict__.get("execute_using_pool")
        if faster is not None:
            cls.execute_using_pool = _checked(faster)
        faster = cls.__dict__.get("on_success")
        if faster is not None:
            cls.on_success = _unless_given_back(faster)

    def __init__(self, *args: Any, **options: Any) -> None:
        try:
            super().__init__(*args, **options)
        except (InvalidTaskError, ContentDisallowed, DecodeError):
            raise
        except Exception as error:  # this code only reads the message
            raise InvalidTaskError(f"Celery cannot read it: {printable(repr(error))}") from error

    def cancel(self, *args: Any, **options: Any) -> None:
        """End the run: on a lost connection, if the application is set to do so, and when SIGQUIT ends the worker.

        May be called in a signal handler.
        """
        keeps_message = not self.acknowledged
        # A green pool ends the task within this call and reports a success.
        self.given_back = keeps_message
        try:
            super().cancel(*args, **options)
        except NotImplementedError:
            self.given_back = False
            logger.warning(
                "task %s[%s] continues: this pool cannot cancel it", printable(self.name), printable(self.id)
            )
            return
        if keeps_message:
            self.refusals.note_cancelled(self)

    def acknowledge(self) -> None:
        if not self.given_back:
            super().acknowledge()

    def reject(self, requeue: bool = False) -> None:
        if not requeue and self.time_start is None and not self.acknowledged:
            # Celery before 5.7 discards a message in this way if its ETA is out of the range of dates.
            is_refused = self.refusals.refuse(self.message, "Celery rejected it before its task began")
            self.acknowledged: bool = is_refused
        if requeue and not self.acknowledged:
            self.acknowledged = self.refusals.requeue(self.message, "its run ended without an end of the task")
        super().reject(requeue=requeue)

    def put_back(self) -> None:
        """Give back the message of a task that has not begun.

        Raises:
            Exception: the broker could not be reached.
        """
        if not self.refusals.put_back(self.message):
            self.message.requeue()


def _checked(execute_using_pool: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the method that hands a request to the pool; Celery calls it in the loop, a timer, or for a free slot."""

    @functools.wraps(execute_using_pool)
    def execute(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return execute_using_pool(self, *args, **options)
        except (MemoryError, TaskRevokedError, *self.connection_errors):
            raise
        except Exception as error:
            state.task_ready(self)
            if self.acknowledged:
                # The task has run in this thread (solo pool), and recording its end raised. In other pools the same
                # exception reaches the pool's own handler, which logs it.
                logger.exception(
                    "the end of task %s[%s] could not be recorded", printable(self.name), printable(self.id)
                )
                return None
            if not self.refusals.set_aside(self.message, error):
                raise
            raise TaskRevokedError(self.id) from None  # makes Celery free the slot of this request

    return execute


def _unless_given_back(on_success: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap Celery's callback for the end of a run: it does nothing if the message was given back."""

    @functools.wraps(on_success)
    def callback(self: Any, *args: Any, **options: Any) -> Any:
        if self.given_back:
            state.task_ready(self)
            return None
        return on_success(self, *args, **options)

    return callback
