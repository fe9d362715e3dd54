"""A task base class with a logger and policies.

`@app.task(base=celeriac.Task)` or `@shared_task(base=celeriac.Task)`, or `Celery(task_cls=celeriac.Task)` for all tasks
of an application. It also works in processes that only call tasks: the code for runs and for policies is loaded when it
is needed.

The class extends the base class that the application's tasks would have without it (Django's `DjangoTask`, the
`task_cls` of the application) and keeps all of its behaviour. If you write your own base class, name all its bases, as
with Celery: `class Base(celeriac.Task, DjangoTask)`.

The hooks are Celery's own (`apply_async`, `before_start`, the signal after a run). `__call__` is not overridden,
because Celery runs such tasks on a slower path, and every traceback would get one more frame. If a subclass overrides
`before_start`, it must call the method of this class.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import celery
from celery.exceptions import Ignore

from celeriac.exceptions import PolicyError
from celeriac.policies import misplaced, published
from celeriac.policies.values import CallPolicy, Debounce, Exclusive, Policy, carries_more

if TYPE_CHECKING:
    from celeriac.logs import TaskLogger


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Policies:
    """The policies of one task."""

    calling: CallPolicy | None
    running: Exclusive | None


class Task(celery.Task):  # type: ignore[type-arg]  # generic only in the stubs
    """Base class of tasks."""

    policy: Policy | Sequence[Policy] | None = None
    """What happens to equal calls: a policy, or one policy for calls and one for runs."""

    _policies: ClassVar[_Policies | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Keep the base class that the application would have given to a task without `base`."""
        super().__init_subclass__(**options)
        made = cls.__dict__
        if cls.__bases__ != (Task,) or not ("_decorated" in made or "_app" in made):
            return  # a class that somebody wrote: it names its bases
        # The class made from a function by a decorator has `app`; an application's own `Task` has `_app`.
        base = made["app"].Task if "_decorated" in made else _default_base(made["_app"])
        cls.__bases__ = (base,) if issubclass(base, Task) else (Task, base)

    @property
    def logger(self) -> TaskLogger:
        """A logger whose lines name the task and its id."""
        from celeriac.logs import task_logger

        return task_logger(self.name)

    @property
    def fence(self) -> int | None:
        """The fencing number of this run, greater than that of every earlier run of its key, or `None`.

        Only `Exclusive` runs have one.
        A store that refuses writes with a lower number than the last cannot be damaged by a run that lost its lock.
        """
        lock = getattr(self.request, "celeriac_lock", None)
        return None if lock is None else lock.fence

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Prepare the task's policy when Celery binds the task to an application.

        A wrong policy is logged here and raised by the calls and runs of its own task: an error here would keep Celery
        from making the application's other tasks.
        """
        super().on_bound(app)
        published.install()
        try:
            policies = cls._resolve()
        except PolicyError as error:
            logger.error("%s", error)  # noqa: TRY400 - the sentence says what to change
            return
        if isinstance(policies.calling, Debounce):
            from celeriac.policies.kinds import debounce

            debounce.register(app)

    @classmethod
    def _resolve(cls) -> _Policies:
        """The task's policies, checked once.

        Not left to `on_bound` alone: Celery binds tasks when they are first used, and lets other threads use a task
        before it has finished.

        Raises:
            PolicyError: the policy does not fit the task.
        """
        found = cls.__dict__.get("_policies")
        if found is not None:
            return found  # type: ignore[no-any-return]  # a class's dictionary holds anything
        bases = cls.__mro__[: cls.__mro__.index(Task)]
        if sentence := misplaced.misspelt(cls, bases, Policy):
            raise PolicyError(sentence)
        given = _as_sequence(cls.policy)
        for policy in given:
            if not isinstance(policy, Policy):
                raise PolicyError(
                    f"policy of task {cls.name} is {policy!r}: use celeriac.Throttle, Unique, Debounce, Coalesce or "
                    "Exclusive, with its options"
                )
            policy.check(cls.name, _body(cls))
        policies = _Policies(
            calling=_the_only(cls.name, "calling", [it for it in given if isinstance(it, CallPolicy)]),
            running=_the_only(cls.name, "running", [it for it in given if isinstance(it, Exclusive)]),
        )
        if given:
            from celery import signals

            from celeriac.policies import dispatch, revoking

            signals.worker_ready.connect(revoking.listen, weak=False, dispatch_uid="celeriac-revoking")
            signals.task_postrun.connect(dispatch.leave, weak=False, dispatch_uid="celeriac-leave")
            signals.task_revoked.connect(dispatch.revoked, weak=False, dispatch_uid="celeriac-revoked")
        cls._policies = policies
        return policies

    def apply_async(  # type: ignore[override]  # the stubs list options one by one; Celery takes any
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        **options: Any,
    ) -> Any:
        """As Celery's; a call that the policy drops returns the result handle of the call that runs instead.

        One option is not Celery's: `policy` replaces the task's policy for this call. It is a policy of the same class
        with other options, or `None` to bypass the policy. A signature that is sent in a message cannot contain it.

        Raises:
            PolicyError: the policy does not fit the task or the call.
            DuplicateCallError: the call was dropped, and the policy says `on_duplicate="raise"`.
        """
        policy = self._for_call(options)
        if policy is None or self.app.conf.task_always_eager:
            return super().apply_async(args, kwargs, task_id, producer, **options)
        from celeriac.policies import dispatch

        if carries_more(options):
            options = dispatch.hold(self, policy, args, kwargs, task_id=task_id, **options)
            options.pop("task_id")
            return super().apply_async(args, kwargs, task_id, producer, **options)
        publish_now = super().apply_async
        return dispatch.publish(self, policy, publish_now, args, kwargs, task_id=task_id, producer=producer, **options)

    def _for_call(self, options: dict[str, Any]) -> CallPolicy | None:
        """Take the policy of one call out of its options; the task's own unless another one is given."""
        own = self._resolve().calling
        given: Any = options.pop("policy", own)
        if given is None or given is own:
            return own if given is own else None
        if own is None or type(given) is not type(own) or getattr(given, "until", "") != getattr(own, "until", ""):
            expected = "None" if own is None else f"None or a {type(own).__name__} with the same `until`"
            raise PolicyError(f"policy of a call of task {self.name} is {given!r}: it must be {expected}")
        given.check(self.name, _body(type(self)))
        return given

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Celery calls this before each run; the application's base class sees the runs that the policies let start."""
        policies = self._resolve()
        if (policies.calling is not None or policies.running is not None) and not self.request.is_eager:
            from celeriac.policies import dispatch

            try:
                dispatch.enter(self, policies.calling, policies.running, args, kwargs)
            except Ignore as ended:
                # Celery formats the traceback of each, twice: two frames take a third of the time of six.
                raise ended.with_traceback(None) from None
        super().before_start(task_id, args, kwargs)


def _default_base(app: Any) -> type[celery.Task]:  # type: ignore[type-arg]  # generic only in the stubs
    """The base class of tasks of an application whose `task_cls` is `Task`: what Celery would have chosen."""
    # Celery's fix-up for Django gives way to any `task_cls`, this one included.
    if any(type(fixup).__module__ == "celery.fixups.django" for fixup in app._fixups):
        from celery.contrib.django.task import DjangoTask

        return DjangoTask
    return celery.Task


def _body(task: type[Task]) -> Any:
    """The task's function, to read its parameters from: without `self`, as its callers see it."""
    body = inspect.getattr_static(task, "run")
    return body.__func__ if isinstance(body, staticmethod) else functools.partial(body, None)


def _as_sequence(policy: Any) -> Sequence[Any]:
    if policy is None:
        return ()
    return policy if isinstance(policy, (list, tuple)) else (policy,)


def _the_only(task: str, moment: str, policies: list[Any]) -> Any:
    if len(policies) > 1:
        names = " and ".join(type(it).__name__ for it in policies)
        raise PolicyError(f"task {task} has {len(policies)} policies for {moment} ({names}): one is allowed")
    return policies[0] if policies else None
