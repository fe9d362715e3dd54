"""Who goes first when a pool shrinks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac_operator.decide import victims
from celeriac_operator.decide.victims import EPOCH, Worker, WorkerReply

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def worker(name: str, *, age: float = 0, cost: int = 0, leaving: bool = False) -> Worker:
    """A worker that was created some seconds before noon."""
    created_at = NOON - timedelta(seconds=age)
    return Worker(name=name, uid=name, created_at=created_at, owned_by="", status_url="", cost=cost, leaving=leaving)


def deployment(replicas: int | None) -> dict[str, Any]:
    return {"spec": {} if replicas is None else {"replicas": replicas}}


def after(
    workers: Iterable[Worker], replies: Mapping[str, WorkerReply], *, written: int | None = None
) -> dict[str, int]:
    """The costs after this number of markings has been written (default: all)."""
    costs = {each.uid: each.cost for each in workers}
    return {**costs, **{each.worker.uid: each.cost for each in victims.mark(workers, replies)[:written]}}


def first(costs: Mapping[str, int]) -> list[str]:
    """In the order in which Kubernetes takes them."""
    return sorted(costs, key=lambda name: costs[name])


@pytest.mark.parametrize(
    ("replies", "order"),
    [
        pytest.param({"old": "busy", "mid": "idle", "new": "busy"}, "mid new old", id="the idle one goes first"),
        pytest.param({"old": "idle", "mid": "idle", "new": "idle"}, "new mid old", id="of idle ones the newest"),
        pytest.param({"old": "busy", "mid": "busy", "new": "busy"}, "new mid old", id="of busy ones the newest"),
        pytest.param({"old": "idle", "mid": "idle", "new": "busy"}, "mid old new", id="a busy one after all idle ones"),
        pytest.param({"old": "idle", "mid": "none"}, "old new mid", id="who does not answer counts as busy"),
        pytest.param({}, "new mid old", id="nobody replies"),
    ],
)
def test_who_goes_first(replies: dict[str, str], order: str) -> None:
    workers = [worker("mid", age=600), worker("old", age=86_400), worker("new", age=5)]
    said = {uid: WorkerReply(word) for uid, word in replies.items()}
    assert first(after(workers, said)) == order.split()


@pytest.mark.parametrize(
    ("before", "kept", "there", "asked"),
    [
        pytest.param(3, 1, "a b c", "a b c", id="a pool that shrinks"),
        pytest.param(None, 1, "a", "", id="one worker is what a Deployment has that does not say"),
        pytest.param(3, 3, "a b c", "", id="the same number"),
        pytest.param(1, 3, "a", "", id="a pool that grows"),
        pytest.param(3, 0, "a b c", "", id="all of them go"),
        pytest.param(9, 3, "a b c", "", id="no more are there than stay"),
        pytest.param(9, 3, "a b c d- e-", "", id="who leaves anyway is none of them"),
        pytest.param(9, 2, "a b c d-", "a b c", id="nor is asked"),
    ],
)
def test_who_is_asked(before: int | None, kept: int, there: str, asked: str) -> None:
    workers = [worker(name[0], age=ord(name[0]), leaving=name.endswith("-")) for name in there.split()]
    found = victims.candidates(deployment(before), deployment(kept), reversed(workers))
    assert [each.name for each in found] == asked.split()
    assert victims.candidates(None, deployment(kept), workers) == (), "there is no Deployment to shrink"


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        pytest.param(
            {"busy": 0, "prefetched": 0, "scheduled": 9},
            WorkerReply.IDLE,
            id="messages that wait for their ETA are not work",
        ),
        pytest.param({"busy": 1, "prefetched": 0}, WorkerReply.BUSY, id="it runs a task"),
        pytest.param({"busy": 0, "prefetched": 1}, WorkerReply.BUSY, id="it is about to begin one"),
        pytest.param({"busy": 0, "prefetched": 0, "novel": {}}, WorkerReply.IDLE, id="keys of a newer library"),
        pytest.param({"busy": "0", "prefetched": 0}, WorkerReply.NONE, id="no number"),
        pytest.param({"busy": False, "prefetched": 0}, WorkerReply.NONE, id="nor is this one"),
        pytest.param({}, WorkerReply.NONE, id="nothing is said"),
        pytest.param([], WorkerReply.NONE, id="no object"),
    ],
)
def test_what_a_worker_says(body: object, answer: WorkerReply) -> None:
    assert victims.read_reply(json.dumps(body).encode()) is answer


@pytest.mark.parametrize("body", [b"", b"\xff", b"<html>", b"[" * 100_000])
def test_what_is_no_answer(body: bytes) -> None:
    assert victims.read_reply(body) is WorkerReply.NONE


@pytest.mark.parametrize(
    ("address", "port", "url"),
    [
        pytest.param("10.0.0.5", "celeriac", "http://10.0.0.5:8787/status", id="IPv4"),
        pytest.param("fd00::5", "celeriac", "http://[fd00::5]:8787/status", id="IPv6"),
        pytest.param("", "celeriac", "", id="no address yet"),
        pytest.param("10.0.0.5", "http", "", id="no port of ours"),
    ],
)
def test_reads_a_pod(address: str, port: str, url: str) -> None:
    metadata = {"name": "emails-1", "uid": "u", "creationTimestamp": "2026-05-04T12:00:00Z"}
    containers = [{"name": "side"}, {"name": "worker", "ports": [{"name": port, "containerPort": 8787}]}]
    pod = {"metadata": metadata, "spec": {"containers": containers}, "status": {"podIP": address} if address else {}}
    read = victims.read_worker(pod)
    assert read == Worker(name="emails-1", uid="u", created_at=NOON, owned_by="", status_url=url, cost=0, leaving=False)
    annotated = {**metadata, "annotations": {"controller.kubernetes.io/pod-deletion-cost": "-7"}}
    assert victims.read_worker({**pod, "metadata": annotated}).cost == -7
    annotated = {**metadata, "annotations": {"controller.kubernetes.io/pod-deletion-cost": "costly"}}
    assert victims.read_worker({**pod, "metadata": annotated}).cost == 0


@pytest.mark.parametrize(
    ("owner", "found"),
    [
        pytest.param({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "emails-7f"}, "emails", id="ReplicaSet"),
        pytest.param({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a-b-7f"}, "a-b", id="a name with dashes"),
        pytest.param({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "emails-7f"}, "", id="another kind"),
        pytest.param({"apiVersion": "x.dev/v1", "kind": "ReplicaSet", "name": "emails-7f"}, "", id="another group"),
        pytest.param({}, "", id="no owner"),
    ],
)
def test_a_worker_belongs_to_the_deployment_of_its_replica_set(owner: dict[str, Any], found: str) -> None:
    metadata = {"name": "p", "uid": "u", "creationTimestamp": "2026-05-04T12:00:00Z"}
    owners = [{**owner, "controller": True}] if owner else []
    assert victims.read_worker({"metadata": {**metadata, "ownerReferences": owners}}).owned_by == found


POOLS = st.lists(st.tuples(st.integers(0, 10**7), st.sampled_from(WorkerReply)), min_size=1, max_size=12)


@given(POOLS, st.integers(0, 12))
def test_whatever_is_written_in_time_is_right(pool: list[tuple[int, WorkerReply]], written: int) -> None:
    workers = [worker(str(number), age=age) for number, (age, _) in enumerate(pool)]
    replies = {str(number): answer for number, (_, answer) in enumerate(pool)}
    costs = after(workers, replies)
    assert all(-(2**31) <= cost < 2**31 for cost in costs.values())
    assert costs == {it.uid: victims.cost(it.created_at, is_idle=replies[it.uid] is WorkerReply.IDLE) for it in workers}
    idle = {uid for uid, answer in replies.items() if answer is WorkerReply.IDLE}
    order = [(uid not in idle, int(uid)) for uid in first(costs)]
    assert [is_busy for is_busy, _ in order] == sorted(is_busy for is_busy, _ in order)
    ages = [[pool[number][0] for is_busy, number in order if is_busy is kind] for kind in (False, True)]
    assert ages == [sorted(each) for each in ages]
    # Cut off at any point: nobody is taken before an idle worker that has its cost, and those are the newest ones.
    partly = after(workers, replies, written=written)
    marked = [uid for uid in idle if partly[uid]]
    assert sorted(partly.values())[: len(marked)] == sorted(partly[uid] for uid in marked)
    assert len(marked) == min(written, len(idle))


@given(POOLS)
def test_nothing_is_written_twice(pool: list[tuple[int, WorkerReply]]) -> None:
    replies = {str(number): answer for number, (_, answer) in enumerate(pool)}
    workers = [worker(str(number), age=age) for number, (age, _) in enumerate(pool)]
    costs = after(workers, replies)
    settled = [worker(it.name, age=(NOON - it.created_at).total_seconds(), cost=costs[it.uid]) for it in workers]
    assert victims.mark(settled, replies) == ()
    turned = {**replies, "0": WorkerReply.BUSY if replies["0"] is WorkerReply.IDLE else WorkerReply.IDLE}
    assert [each.worker.uid for each in victims.mark(settled, turned)] == ["0"]


def test_a_pod_from_before_the_epoch_or_far_after_it_has_a_cost_too() -> None:
    for moment in (EPOCH - timedelta(days=900), EPOCH + timedelta(days=36_500)):
        assert victims.cost(moment, is_idle=True) < 0 < victims.cost(moment, is_idle=False) < 2**31
