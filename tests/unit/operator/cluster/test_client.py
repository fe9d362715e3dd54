"""What each write says about the object that it is meant for, and what each answer means. The API server is a list of
answers here; the real one is asked by the integration tests."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.unit.operator import factories

from celeriac_operator.cluster import kinds
from celeriac_operator.cluster.client import Cluster, OccupiedError
from celeriac_operator.event import Event
from celeriac_operator.exceptions import ApiError
from celeriac_operator.reasons import EventReason
from celeriac_operator.resource import Status

THERE = {"kind": "Deployment", "metadata": {"name": "emails", "namespace": "shop", "uid": "u", "resourceVersion": "7"}}
METADATA = THERE["metadata"]
WANTED = {"kind": "Deployment", "metadata": {"name": "emails", "namespace": "shop"}}


class Server:
    """Answers with what it is given, in order, and remembers each request."""

    def __init__(self, *answers: dict[str, Any] | ApiError) -> None:
        self.answers = list(answers)
        self.requests: list[dict[str, Any]] = []

    async def request(self, verb: str, path: str, **words: Any) -> dict[str, Any]:
        self.requests.append({"verb": verb, "path": path, **words, "query": dict(words.get("query") or {})})
        answer = self.answers.pop(0) if self.answers else THERE
        if isinstance(answer, ApiError):
            raise answer
        return answer

    @property
    def written(self) -> dict[str, Any]:
        """The only write."""
        (found,) = (request for request in self.requests if request["verb"] != "GET")
        return found


def a_cluster(*answers: Any, namespaces: tuple[str, ...] = ()) -> tuple[Cluster, Server]:
    server = Server(*answers)
    return Cluster(server, namespaces), server  # type: ignore[arg-type]  # what it uses of a transport


Write = Callable[[Cluster], Coroutine[Any, Any, Any]]

BOUND_TO_UID: dict[str, Write] = {
    "an update": lambda cluster: cluster.apply(kinds.DEPLOYMENT, WANTED, "u"),
    "a status": lambda cluster: cluster.write_status(METADATA, Status()),
    "a number of workers": lambda cluster: cluster.scale(METADATA, 3),
    "a deletion cost": lambda cluster: cluster.write_deletion_cost("shop", "emails", "u", 5),
    "the managers of fields": lambda cluster: cluster.replace_managers(kinds.DEPLOYMENT, THERE, []),
}


@pytest.mark.parametrize("write", BOUND_TO_UID.values(), ids=BOUND_TO_UID)
async def test_a_write_meant_for_a_deleted_object_does_not_change_the_new_one_of_its_name(write: Write) -> None:
    cluster, server = a_cluster()
    await write(cluster)
    assert server.written["body"]["metadata"]["uid"] == "u"


async def test_a_deletion_meant_for_a_deleted_object_does_not_delete_the_new_one_of_its_name() -> None:
    cluster, server = a_cluster()
    await cluster.delete(kinds.DISRUPTION_BUDGET, "shop", "emails", "u")
    assert server.written["body"]["preconditions"] == {"uid": "u"}


BOUND_TO_VERSION = {name: BOUND_TO_UID[name] for name in ("a number of workers", "the managers of fields")}


@pytest.mark.parametrize("write", BOUND_TO_VERSION.values(), ids=BOUND_TO_VERSION)
async def test_a_change_by_somebody_else_in_between_is_not_undone(write: Write) -> None:
    cluster, server = a_cluster()
    await write(cluster)
    assert server.written["body"]["metadata"]["resourceVersion"] == "7"


async def test_an_object_of_another_owner_that_has_the_name_is_left_alone() -> None:
    cluster, server = a_cluster(THERE)
    with pytest.raises(OccupiedError) as said:
        await cluster.apply(kinds.DEPLOYMENT, WANTED, "")
    assert said.value.there == THERE
    assert [request["verb"] for request in server.requests] == ["GET"]


async def test_an_object_that_somebody_creates_at_the_same_moment_keeps_its_fields() -> None:
    cluster, server = a_cluster(ApiError(404, "NotFound", "none"))
    await cluster.apply(kinds.DEPLOYMENT, WANTED, "")
    assert server.written["query"]["force"] == "false"


FORCED: dict[str, Write] = {name: BOUND_TO_UID[name] for name in ("an update", "a status")}


@pytest.mark.parametrize("write", FORCED.values(), ids=FORCED)
async def test_what_somebody_has_edited_is_written_all_the_same(write: Write) -> None:
    cluster, server = a_cluster()
    await write(cluster)
    assert server.written["query"]["force"] == "true"


async def test_a_deletion_cost_that_a_person_has_set_is_kept() -> None:
    cluster, server = a_cluster()
    await cluster.write_deletion_cost("shop", "emails", "u", 5)
    assert server.written["query"]["force"] == "false"


@pytest.mark.parametrize("status", [404, 409])
async def test_deleting_what_is_gone_or_replaced_is_done(status: int) -> None:
    cluster, _ = a_cluster(ApiError(status, "", "gone"))
    await cluster.delete(kinds.DISRUPTION_BUDGET, "shop", "emails", "u")


async def test_a_deletion_that_failed_is_tried_again() -> None:
    cluster, _ = a_cluster(ApiError(500, "", "etcd is away"))
    with pytest.raises(ApiError):
        await cluster.delete(kinds.DISRUPTION_BUDGET, "shop", "emails", "u")


async def test_an_object_that_cannot_be_read_does_not_count_as_absent() -> None:
    cluster, _ = a_cluster(ApiError(404, "", "none"), ApiError(403, "", "forbidden"))
    assert await cluster.read(kinds.SECRET, "shop", "redis") is None
    with pytest.raises(ApiError):
        await cluster.read(kinds.SECRET, "shop", "redis")


def a_page(*names: str, more: str = "") -> dict[str, Any]:
    items = [{"metadata": {"name": name, "namespace": "shop"}} for name in names]
    return {"metadata": {"resourceVersion": "9", "continue": more}, "items": items}


async def test_all_pools_are_found_though_they_do_not_fit_on_one_page() -> None:
    cluster, server = a_cluster(a_page("a", more="next"), a_page("b"))
    found = [item["metadata"]["name"] async for _, _, items in cluster.pages(kinds.POOL) for item in items]
    assert found == ["a", "b"]
    assert server.requests[1]["query"]["continue"] == "next"


async def test_of_a_large_cluster_only_the_operators_pods_are_read() -> None:
    cluster, server = a_cluster(a_page())
    assert [page async for page in cluster.pages(kinds.POD)]
    assert server.requests[0]["query"]["labelSelector"] == kinds.POD.label_selector != ""


async def test_an_operator_of_two_namespaces_asks_for_those_only() -> None:
    cluster, server = a_cluster(a_page(), a_page(), namespaces=("shop", "bank"))
    assert [namespace async for namespace, _, _ in cluster.pages(kinds.POOL)] == ["shop", "bank"]
    assert [request["path"].split("/")[-2] for request in server.requests] == ["shop", "bank"]


async def test_an_event_with_a_long_message_is_recorded() -> None:
    cluster, server = a_cluster()
    event = Event(kind="Normal", reason=EventReason.REPAIRED, message="x" * 5000)
    await cluster.emit(factories.a_pool(), event, factories.NOW)
    assert len(server.written["body"]["message"]) == 1024, "the API server accepts no more"
