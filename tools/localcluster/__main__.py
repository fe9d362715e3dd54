"""`python -m localcluster`: a real Kubernetes on this machine, and the images that run in it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from localcluster import base, build, images, kwok, programs, providers
from localcluster.embedded import Embedded
from localcluster.errors import LocalClusterError
from localcluster.paths import Cache
from localcluster.progress import say

DESCRIPTION = """\
A real Kubernetes for the demo and the tests, and the images that run in it.

Which one: a cluster that you name (KUBECONFIG plus CELERIAC_USE_CLUSTER=1), else kind where Docker works, else an
embedded one, whose programs are built once from Go modules and run as processes of this machine (Linux, root).
"""
EPILOGUE = """\
environment:
  CELERIAC_CACHE         programs, Go's caches, images (default ~/.cache/celeriac)
  CELERIAC_CLUSTER_HOME  the embedded cluster's own files (default cluster/ in the cache); clusters with different
                         homes run side by side
  CELERIAC_USE_CLUSTER   1: use the cluster of KUBECONFIG and start none
  CELERIAC_REGISTRY      with a named cluster: what the names of images begin with, such as registry.example/me
  CELERIAC_PROVIDER      kind or embedded, instead of asking whether Docker works

Results go to standard output, progress to standard error. Exit codes: 0 done, 1 a sentence says why not, 2 wrong use,
3 (status) not up, 130 interrupted. tools/localcluster/README.md has the rest.
"""
NOT_UP = 3
INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="localcluster",
        description=DESCRIPTION,
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, summary: str, *, as_json: bool = False) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        if as_json:
            command.add_argument("--json", action="store_true", help="print one JSON document")
        return command

    add("up", "start the cluster, unless it runs; build and install what is missing")
    add("down", "stop it and leave nothing behind (the cache stays)")
    add("status", "what runs, where, and how to reach it", as_json=True)
    add("env", 'shell lines for kubectl and helm: eval "$(python -m localcluster env)"', as_json=True)
    add("kwok", "have N fake nodes beside the real one (embedded only)").add_argument(
        "nodes", metavar="N", type=_count, help="0 removes them"
    )
    make = add(
        "images", "build the images whose source has changed, and import them into the running cluster", as_json=True
    )
    make.add_argument("names", metavar="NAME", nargs="*", help="of images.toml; default: all")
    make.add_argument("--refresh-base", action="store_true", help="first make the base image again, with new packages")
    add("programs", "build programs without starting anything").add_argument(
        "names", metavar="NAME", nargs="*", help=f"of {', '.join(programs.PROGRAMS)}; default: what a cluster needs"
    )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    # `su` keeps a user's path, on which ip, iptables and modprobe are not.
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(dict.fromkeys([*folders, "/usr/sbin", "/sbin"]))
    try:
        return run(options, Cache.default())
    except LocalClusterError as error:
        say(f"localcluster: {error}")
        return 1
    except KeyboardInterrupt:
        say("localcluster: interrupted; what was begun is taken back")
        return INTERRUPTED


def run(options: argparse.Namespace, cache: Cache) -> int:
    match options.command:
        case "up":
            provider = providers.current(cache)
            provider.up()
            say('for kubectl and helm in this shell: eval "$(PYTHONPATH=tools python3 -m localcluster env)"')
        case "down":
            providers.current(cache).down()
        case "status":
            return status(providers.current(cache), as_json=options.json)
        case "env":
            print_environment(providers.current(cache), cache, as_json=options.json)
        case "kwok":
            embedded = providers.current(cache)
            if not isinstance(embedded, Embedded):
                raise LocalClusterError(f"fake nodes are made in the embedded cluster only, not in {embedded.name}")
            kwok.set_nodes(embedded, options.nodes)
        case "images":
            built = make_images(providers.current(cache), cache, options.names, refresh_base=options.refresh_base)
            print(json.dumps(built, indent=1) if options.json else "\n".join(built.values()))
        case "programs":
            build.ensure_programs(cache, options.names or programs.CLUSTER)
    return 0


def status(provider: providers.Provider, *, as_json: bool) -> int:
    found = provider.status()
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(describe(found)))
    return 0 if found["up"] else NOT_UP


def describe(found: dict[str, Any]) -> list[str]:
    """(pure) A provider's status for people."""
    lines = [f"provider    {found['provider']}", f"state       {found['state']}"]
    lines += [f"{name:<12}{found[name]}" for name in ("server", "kubeconfig", "auditLog", "home") if name in found]
    for name, ready in found.get("nodes", {}).items():
        lines.append(f"{'node':<12}{name}: {'Ready' if ready else 'not ready'}")
    for name, pods in found.get("namespaces", {}).items():
        lines.append(f"{'namespace':<12}{name}: {pods} pod(s)")
    for process in found.get("processes", []):
        lines.append(f"{'process':<12}{process['pid']:>8} {process['name']}, {process['memoryMiB']} MiB")
    lines += [f"{'image':<12}{name}" for name in found.get("images", [])]
    return lines


def make_images(
    provider: providers.Provider, cache: Cache, names: Sequence[str], *, refresh_base: bool = False
) -> dict[str, str]:
    """Build and import; returns each image's name and full reference."""
    with_docker = provider.name == "kind" or (provider.name == "named" and providers.docker_works())
    if refresh_base and not with_docker:
        base.ensure(cache, refresh=True)
    built = images.build(cache, names, prefix=provider.image_prefix, with_docker=with_docker)
    if provider.is_up():
        provider.load({image.reference: image.archive for image in built})
    return {image.name: image.reference for image in built}


def print_environment(provider: providers.Provider, cache: Cache, *, as_json: bool) -> None:
    variables = providers.environment(provider, cache, os.environ["PATH"])
    if as_json:
        print(json.dumps(variables, indent=1))
    else:
        print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("a number of nodes, 0 or more")
    return number


def _interrupt(*_: object) -> NoReturn:
    """SIGTERM cleans up as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
