"""(pure) Finds policies that would have no effect.

A policy is an option of a task whose base class is `celeriac.Task`: `policy=Throttle(...)`. On a task of another base
class, or under another option name, it would never be used. Celery creates tasks when they are first used, all of them
in one loop, so an error there would keep the application's other tasks from being created. Instead the task is created,
its calls raise, and a Celeriac worker refuses to start.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from celeriac.exceptions import PolicyError

logger = logging.getLogger(__name__)

OPTION: Final = "policy"
REFUSED: Final = "celeriac_refused"
"""The attribute of a task whose policy has no effect; its value is a sentence with the reason."""


def check(owner: Any, name: str) -> None:
    """Refuse the calls of a task with a policy that is not a `celeriac.Task`; called when the class is created."""
    if not _is_task(owner) or hasattr(owner, "_resolve") or not _is_meant(name):
        return
    sentence = _sentence(owner, name)
    logger.error("%s", sentence)

    def apply_async(*_: Any, **__: Any) -> None:
        raise PolicyError(sentence)

    setattr(owner, REFUSED, sentence)
    owner.apply_async = apply_async


def misspelt(task: Any, bases: Iterable[type], policy: type) -> str | None:
    """Return a sentence about a policy under another option name, or `None`.

    Args:
        task: the task's class.
        bases: the classes whose attributes are options of the task.
        policy: the class of all policies.
    """
    for base in bases:
        for name, value in vars(base).items():
            if name != OPTION and _holds(value, policy) and _is_meant(name):
                return _sentence(task, name)
    return None


def problems(tasks: Iterable[Any]) -> list[str]:
    """Return a sentence for each task whose policy has no effect or is wrong."""
    from celeriac.policies.values import Policy  # it imports this module

    found = []
    for task in tasks:
        kind = type(task)
        if hasattr(kind, "_resolve"):
            try:
                kind._resolve()
            except PolicyError as error:
                found.append(str(error))
        elif sentence := getattr(kind, REFUSED, None) or _without_base(kind, Policy):
            found.append(sentence)
    return found


def _without_base(kind: type, policy: type) -> str | None:
    if _holds(getattr(kind, OPTION, None), policy):
        return _sentence(kind, OPTION)
    return misspelt(kind, [kind], policy)


def _sentence(task: Any, name: str) -> str:
    title = f"task {task.name}"
    if hasattr(task, "_resolve"):
        return f"{title}: {name}= is not an option of a task: write policy="
    if name == OPTION:
        return f"policy of {title} has no effect: the task needs base=celeriac.Task"
    return f"{name}= of {title} has no effect: write policy=, and base=celeriac.Task"


def _is_task(owner: Any) -> bool:
    return isinstance(owner, type) and callable(getattr(owner, "apply_async", None)) and hasattr(owner, "name")


def _is_meant(name: str) -> bool:
    """Return whether this name is probably a misspelling of `policy`."""
    import difflib  # only needed if a policy is misplaced

    return bool(difflib.get_close_matches(name.lower(), (OPTION, "policies"), cutoff=0.7))


def _holds(value: object, policy: type) -> bool:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return any(isinstance(it, policy) for it in values)
