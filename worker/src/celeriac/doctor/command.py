"""What does `celeriac doctor` print?"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from celeriac.config import application, contract, standalone
from celeriac.config.installed import version
from celeriac.doctor import ancestry, examination, rules
from celeriac.doctor.effective import Effective
from celeriac.doctor.rules import Finding
from celeriac.exits import Exit, GivingUpError


def main(environ: Mapping[str, str], flags: Mapping[str, Any], *, as_json: bool) -> int:
    """Examine the application, print the findings, and return the exit code."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the application prints while it is imported
            found, held = examine(environ, flags)
    except contract.ContractError as error:
        print(f"celeriac: {error}", file=sys.stderr)
        return int(Exit.USAGE)
    except GivingUpError as error:
        print(f"celeriac: {error}", file=sys.stderr)
        return int(error.code)
    print(build_json(found, held) if as_json else build_text(found, held))
    return int(Exit.FAILURE if any(it.severity == "error" for it in found) else Exit.OK)


def examine(environ: Mapping[str, str], flags: Mapping[str, Any]) -> tuple[list[Finding], list[Effective]]:
    """Findings and effective settings of the worker that this environment describes.

    Raises:
        ContractError: the environment or the document cannot be used.
        GivingUpError: the application cannot be used.
    """
    environment = contract.parse_environment(environ, hostname=socket.gethostname())
    config = contract.parse(standalone.document(environ, flags, application.processors()))
    start = application.prepare(config, environment)
    start.app.loader.import_default_modules()
    start.app.finalize(auto=True)
    worker = ancestry.find_worker() if environment.pod_uid else None
    ancestors = () if worker is None else ancestry.above(worker)
    return rules.findings(examination.read_facts(start, ancestors)), examination.read_settings(start)


def build_json(found: Sequence[Finding], held: Sequence[Effective]) -> str:
    """One object: versions, settings, findings."""
    return json.dumps(
        {
            "versions": {name: version(name) for name in ("celeriac", "celery", "kombu", "redis")},
            "settings": [{**asdict(it), "source": it.source.value} for it in held],
            "findings": [asdict(it) for it in found],
        },
        indent=2,
        default=str,
    )


def build_text(found: Sequence[Finding], held: Sequence[Effective]) -> str:
    """A table of the settings, and a line for each finding."""
    rows = [("setting", "value", "from")]
    rows += [(f"{it.name} of {it.task}" if it.task else it.name, _value(it.value), it.source.value) for it in held]
    widths = [max(len(row[at]) for row in rows) for at in range(2)]
    lines = [f"{name.ljust(widths[0])}  {value.ljust(widths[1])}  {source}" for name, value, source in rows]
    lines.append("")
    lines += [f"{it.severity}: {it.message} ({it.code})" for it in found]
    errors = sum(it.severity == "error" for it in found)
    lines.append(f"{errors} errors, {len(found) - errors} warnings")
    return os.linesep.join(lines)


def _value(value: Any) -> str:
    return "-" if value is None else str(value)
