"""The demo's command line."""

from __future__ import annotations

import pytest

from demo import __main__ as command
from demo import install, programme


def test_rows_are_named_by_the_list(capsys):
    assert command.main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [row.name for row in programme.ROWS]


@pytest.mark.parametrize("arguments", [[], ["sideways"], ["up", "--only", "nothing"], ["down", "--json"]])
def test_a_wrong_command_is_refused_with_the_choices(arguments, capsys):
    with pytest.raises(SystemExit) as refused:
        command.main(arguments)
    assert refused.value.code == 2
    assert "usage: demo" in capsys.readouterr().err


def test_what_cannot_be_set_up_is_one_sentence_and_exit_code_1(monkeypatch, capsys):
    def refuse():
        raise install.SetUpError("no cluster")

    monkeypatch.setattr(install, "start_cluster", refuse)
    assert command.main(["up"]) == 1
    assert capsys.readouterr().err.strip() == "The demo could not be set up: no cluster"


def test_ctrl_c_says_what_is_left_and_how_to_remove_it(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "start_cluster", interrupt)
    assert command.main(["up"]) == 130
    assert "make demo-down" in capsys.readouterr().err


def test_down_without_a_cluster_has_nothing_to_do(monkeypatch, capsys):
    monkeypatch.setattr(install, "find_cluster", lambda: None)
    assert command.main(["down"]) == 0
    assert "nothing to remove" in capsys.readouterr().err
