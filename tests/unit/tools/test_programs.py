"""Programs are built from exactly what their stamp says, and only those that have to be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from localcluster import build, programs
from localcluster.programs import PROGRAMS, Module

UPSTREAM = """\
module k8s.io/kubernetes

require (
	github.com/google/cel-go v0.26.0
	k8s.io/api v0.0.0
	k8s.io/apimachinery v0.0.0
	k8s.io/klog/v2 v2.130.1
	k8s.io/kube-openapi v0.0.0-20250910181357-589584f1c912
)

require k8s.io/sample-apiserver v0.0.0 // indirect
"""


def test_staging_modules_are_replaced_by_their_published_version() -> None:
    assert programs.replacements(UPSTREAM, "v1.35.4") == {
        "k8s.io/api": "v0.35.4",
        "k8s.io/apimachinery": "v0.35.4",
        "k8s.io/sample-apiserver": "v0.35.4",
    }


def test_a_go_mod_requires_one_module_and_names_its_replacements() -> None:
    module = Module("kubernetes", "k8s.io/kubernetes", "v1.35.4", staging=True)
    assert programs.go_mod(module, {"k8s.io/api": "v0.35.4"}) == (
        "module local/kubernetes\n\ngo 1.25.0\n\ngodebug default=go1.25\n\nrequire k8s.io/kubernetes v1.35.4\n\n"
        "replace (\n\tk8s.io/api => k8s.io/api v0.35.4\n)\n"
    )


def test_a_program_of_our_own_source_requires_nothing() -> None:
    assert programs.go_mod(PROGRAMS["pause"].module, {}) == "module local/pause\n\ngo 1.25.0\n"


def test_coredns_has_the_plugins_of_the_corefile_and_no_other() -> None:
    source = programs.coredns_source()
    assert '_ "github.com/coredns/coredns/plugin/kubernetes"' in source
    assert source.count("/plugin/") == len(programs.COREDNS_PLUGINS)
    assert "route53" not in source


def test_kubernetes_programs_carry_their_version() -> None:
    ldflags = PROGRAMS["kubelet"].ldflags
    assert f"-X k8s.io/component-base/version.gitVersion={programs.KUBERNETES}" in ldflags
    assert f"-X k8s.io/client-go/pkg/version.gitVersion={programs.KUBERNETES}" in ldflags


def test_nothing_is_built_when_every_stamp_matches() -> None:
    stamps = {name: programs.stamp(program) for name, program in PROGRAMS.items()}
    assert programs.missing(PROGRAMS, stamps) == []


@pytest.mark.parametrize("name", ["etcd", "pause", "coredns"])
def test_only_the_program_that_changed_is_built_again(name: str) -> None:
    stamps = {other: programs.stamp(program) for other, program in PROGRAMS.items()}
    changed = replace(PROGRAMS[name].module, version="v0.0.1", source="package main")
    stamps[name] = programs.stamp(replace(PROGRAMS[name], module=changed))
    assert [program.name for program in programs.missing(PROGRAMS, stamps)] == [name]


def test_programs_of_one_module_are_built_one_after_the_other() -> None:
    modules = [program.module.name for program in programs.missing(PROGRAMS, {})]
    assert modules == sorted(modules, key=list(dict.fromkeys(modules)).index)


def test_an_unknown_program_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"no such program: etcdd; there are pause, etcd"):
        programs.missing(["etcdd"], {})


def test_a_cluster_needs_no_program_of_a_provider_or_a_peer() -> None:
    assert set(PROGRAMS) - set(programs.CLUSTER) == {"kwok", "kind", "keda-operator"}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26)),
        ("go version go1.26rc1 darwin/arm64", (1, 26)),
        ("go version devel +abc linux/amd64", None),
        ("", None),
    ],
)
def test_go_says_its_version(text: str, version: tuple[int, int] | None) -> None:
    assert build.parse_go_version(text) == version
