"""Every kind of change that the operator answers: what is there before, and what happens then.

Each is a starting state, which the operator reaches undisturbed, and one action.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.chaos.operator.place import POOL_LABEL, Manifest, Place

Step = Callable[[Place], Awaitable[Any]]

DSN = {"dsn": "https://key@sentry.example/1"}
OTHER_DSN = {"dsn": "https://other@sentry.example/2"}
ENV = [{"name": "A", "value": "1"}]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change.

    Attributes:
        before: creates the starting state; None: there is no pool.
        make: the change.
        undo: takes it back, to the starting point; None: it cannot be.
        also_down: it is made while the operator is down, too.
        is_race: it rolls workers by itself unless the operator is faster: how often they roll says nothing of it.
    """

    name: str
    make: Step
    before: Step | None = None
    undo: Step | None = None
    also_down: bool = False
    is_race: bool = False


def pool(**spec: Any) -> Step:
    async def step(place: Place) -> None:
        await place.pool(**spec)

    return step


def secret_of_broker(url: str, **labels: str) -> Step:
    async def step(place: Place) -> None:
        await place.secret(place.broker, labels, url=url)

    return step


def pool_with_broker(url: str | None) -> Step:
    async def step(place: Place) -> None:
        if url is not None:
            await place.secret(place.broker, url=url)
        await place.pool(broker={"urlFrom": {"secretKeyRef": {"name": place.broker, "key": "url"}}})

    return step


def pool_with_dsn_secret(dsn: str) -> Step:
    async def step(place: Place) -> None:
        await place.secret(place.dsn, dsn=dsn)
        await place.pool(sentry={"dsnFrom": {"secretKeyRef": {"name": place.dsn, "key": "dsn"}}})

    return step


def secret_of_dsn(dsn: str) -> Step:
    async def step(place: Place) -> None:
        await place.secret(place.dsn, dsn=dsn)

    return step


def delete(kind: str, suffix: str = "") -> Step:
    async def step(place: Place) -> None:
        await place.delete(kind, place.name + suffix)

    return step


def delete_and_make_anew(**spec: Any) -> Step:
    async def step(place: Place) -> None:
        await place.delete("CeleryWorkerPool", place.name)
        await place.pool(**spec)

    return step


def orphan_and_make_anew(**spec: Any) -> Step:
    async def step(place: Place) -> None:
        await place.delete("CeleryWorkerPool", place.name, orphan=True)
        await place.await_gone("CeleryWorkerPool", place.name)
        await place.pool(**spec)

    return step


def scale(replicas: int) -> Step:
    async def step(place: Place) -> None:
        await place.merge("CeleryWorkerPool", place.name, {"spec": {"replicas": replicas}}, "scale")

    return step


def merge(kind: str, patch: Manifest, suffix: str = "") -> Step:
    async def step(place: Place) -> None:
        await place.merge(kind, place.name + suffix, patch)

    return step


async def edit_deployment(place: Place) -> None:
    containers = [{"name": "worker", "image": "other:1", "env": [{"name": "A", "value": "2"}]}]
    patch = {"spec": {"replicas": 3, "template": {"spec": {"containers": containers}}}}
    await place.strategic("Deployment", place.name, patch)


async def foreign_deployment(place: Place) -> None:
    marks = {"app": "x", POOL_LABEL: place.name}
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "x"}}, "template": template}
    metadata = {"name": place.name, "namespace": place.namespace, "labels": marks}
    await place.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})


async def foreign_then_pool(place: Place) -> None:
    await foreign_deployment(place)
    await place.pool()


async def make_ready(place: Place) -> None:
    await place.set_pods(ready=True, started=True, state={"running": {"startedAt": "2026-01-01T00:00:00Z"}})


async def pool_that_is_ready(place: Place) -> None:
    await place.pool()
    await make_ready(place)


async def crash(place: Place) -> None:
    ended = {"exitCode": 78, "reason": "Error", "message": "no module named shop"}
    ended |= {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:02Z"}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}
    await place.set_pods(restartCount=3, state=waiting, lastState={"terminated": ended})


UNKNOWN_FIELD = {"spec": {"nodeSelectors": {}}}
RESTARTED = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01"}}}}}
FOUR = {"replicas": 4}

CHANGES: tuple[Change, ...] = (
    Change(name="a pool is created", make=pool(), also_down=True),
    Change(name="a pool with an inline DSN is created", make=pool(sentry=DSN), also_down=True),
    Change(name="a pool with its broker in a Secret is created", make=pool_with_broker("redis://:a@redis/0")),
    Change(
        name="the broker's Secret comes after the pool",
        before=pool_with_broker(None),
        make=secret_of_broker("redis://:a@redis/0"),
    ),
    Change(name="the image changes", before=pool(), make=pool(image="shop:2"), undo=pool(), also_down=True),
    Change(name="a variable is removed", before=pool(env=ENV), make=pool(), undo=pool(env=ENV)),
    Change(
        name="the template changes",
        before=pool(template={"spec": {"nodeSelector": {"disk": "fast"}}}),
        make=pool(template={"metadata": {"labels": {"team": "a"}}}),
        undo=pool(template={"spec": {"nodeSelector": {"disk": "fast"}}}),
    ),
    Change(
        name="a label of the pool changes",
        before=pool(),
        make=merge("CeleryWorkerPool", {"metadata": {"labels": {"team": "a"}}}),
    ),
    Change(name="scaled up", before=pool(), make=scale(3), undo=scale(1), also_down=True),
    Change(name="scaled to zero", before=pool(replicas=2), make=scale(0), undo=scale(2)),
    Change(name="suspended", before=pool(replicas=2), make=pool(replicas=2, suspend=True), undo=pool(replicas=2)),
    Change(name="resumed", before=pool(suspend=True), make=pool(), undo=pool(suspend=True)),
    Change(name="an inline DSN is added", before=pool(), make=pool(sentry=DSN), undo=pool()),
    Change(name="the inline DSN changes", before=pool(sentry=DSN), make=pool(sentry=OTHER_DSN), undo=pool(sentry=DSN)),
    Change(name="the inline DSN is removed", before=pool(sentry=DSN), make=pool(), also_down=True),
    Change(
        name="the inline DSN moves to a Secret",
        before=pool(sentry=DSN),
        make=pool_with_dsn_secret("https://key@sentry.example/1"),
    ),
    Change(
        name="the DSN's Secret is rotated",
        before=pool_with_dsn_secret("https://key@sentry.example/1"),
        make=secret_of_dsn("not a dsn"),
        undo=secret_of_dsn("https://key@sentry.example/1"),
    ),
    Change(
        name="the broker's Secret is rotated",
        before=pool_with_broker("redis://:a@redis/0"),
        make=secret_of_broker("redis://:b@redis/0"),
        undo=secret_of_broker("redis://:a@redis/0"),
    ),
    Change(
        name="the broker's Secret gets a label",
        before=pool_with_broker("redis://:a@redis/0"),
        make=secret_of_broker("redis://:a@redis/0", team="a"),
    ),
    Change(
        name="the broker's Secret is deleted",
        before=pool_with_broker("redis://:a@redis/0"),
        make=delete("Secret", "-redis"),
    ),
    Change(name="the pool is deleted", before=pool(sentry=DSN), make=delete("CeleryWorkerPool"), also_down=True),
    Change(
        name="the pool is deleted and made anew",
        before=pool(sentry=DSN),
        make=delete_and_make_anew(sentry=DSN, image="shop:2"),
        also_down=True,
    ),
    Change(
        name="the pool is deleted without what it owns, and made anew",
        before=pool(),
        make=orphan_and_make_anew(),
    ),
    Change(name="the Deployment is edited", before=pool(env=ENV), make=edit_deployment, also_down=True, is_race=True),
    Change(name="the Deployment is deleted", before=pool(sentry=DSN), make=delete("Deployment"), also_down=True),
    Change(
        name="the Deployment loses its labels",
        before=pool(),
        make=merge("Deployment", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
    ),
    Change(name="the Deployment is restarted by hand", before=pool(), make=merge("Deployment", RESTARTED)),
    Change(
        name="the owned Secret is edited",
        before=pool(sentry=DSN),
        make=merge("Secret", {"data": {"dsn": "eA=="}}, "-sentry"),
    ),
    Change(
        name="the owned Secret is deleted", before=pool(sentry=DSN), make=delete("Secret", "-sentry"), also_down=True
    ),
    Change(name="a foreign Deployment has the name", make=foreign_then_pool),
    Change(name="the foreign Deployment goes away", before=foreign_then_pool, make=delete("Deployment")),
    Change(name="a template is refused", before=pool(), make=pool(template=UNKNOWN_FIELD), undo=pool()),
    Change(name="a refused template is mended", before=pool(template=UNKNOWN_FIELD), make=pool()),
    Change(name="the workers become ready", before=pool(), make=make_ready),
    Change(name="a worker crashes", before=pool_that_is_ready, make=crash, undo=make_ready),
)

BUDGET_CHANGES: tuple[Change, ...] = (
    Change(name="the budget is deleted", before=pool(**FOUR), make=delete("PodDisruptionBudget")),
    Change(
        name="the budget is edited",
        before=pool(**FOUR),
        make=merge("PodDisruptionBudget", {"spec": {"maxUnavailable": 4}}),
    ),
    Change(
        name="the pool's disruption changes",
        before=pool(**FOUR),
        make=pool(**FOUR, disruption={"maxUnavailable": 2}),
        undo=pool(**FOUR),
        also_down=True,
    ),
)
"""Where the resource has `disruption`."""
