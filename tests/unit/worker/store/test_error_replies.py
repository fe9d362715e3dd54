"""What an error of Redis means, in the words of several versions."""

from __future__ import annotations

import pytest

from celeriac.store import error_replies
from celeriac.store.error_replies import Kind

CASES = {
    "READONLY You can't write against a read only replica. script: 1a, on @user_script:3.": "READONLY",
    "ERR Error running script (call to f_1a): @user_script:3: @user_script: 3: -OOM command not allowed": "OOM",
    "ERR Error running script (call to f_1a): @user_script:3: @user_script: 3: -READONLY You can't write": "READONLY",
    "ERR ACL failure in script: User app has no permissions to run the 'hset' command script: 1a": "NOPERM",
    "NOPERM this user has no permissions to access one of the keys used as arguments": "NOPERM",
    "ERR The user executing the script can't run this command or subcommand script: 1a": "NOPERM",
    "NOREPLICAS Not enough good replicas to write.": "NOREPLICAS",
    "WRONGTYPE Operation against a key holding the wrong kind of value script: 1a": "WRONGTYPE",
    "ERR unknown command 'FOO'": "ERR",
    "SEARCH_INDEX_NOT_FOUND of a module": "",
    "Command # 1 (SADD key value) of pipeline caused error: NOREPLICAS Not enough good replicas": "NOREPLICAS",
    "says OOM somewhere": "",
    "": "",
}


@pytest.mark.parametrize("text", CASES)
def test_the_prefix_is_found(text: str) -> None:
    assert error_replies.prefix_of(text) == CASES[text]


def test_an_unknown_error_is_a_mistake_and_no_reason_to_wait() -> None:
    assert error_replies.kind_of("SEARCH_INDEX_NOT_FOUND of a module") is Kind.MISTAKE


@pytest.mark.parametrize("prefix", error_replies.PREFIXES)
def test_each_prefix_means_something_to_a_person(prefix: str) -> None:
    meaning = error_replies.meaning_of(f"{prefix} what the server says")
    assert meaning[0].islower()
    assert not meaning.endswith(".")


def test_a_server_without_room_for_another_client_is_away() -> None:
    assert error_replies.kind_of("ERR max number of clients reached") is Kind.OUTAGE
    assert error_replies.meaning_of("ERR max number of clients reached") == "it has no connection left"
