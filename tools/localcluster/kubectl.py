"""kubectl against one cluster, away from the person's own configuration and caches."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import CommandError


@dataclass(frozen=True)
class Kubectl:
    program: Path
    kubeconfig: Path
    cache: Path  # discovery is remembered here instead of in ~/.kube

    def __call__(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002 -- the name that subprocess.run gave it
        check: bool = True,
        timeout_seconds: float = 120,
    ) -> str:
        """Run it and return standard output. Raises CommandError with kubectl's output, unless `check` is False."""
        done = subprocess.run(
            [self.program, *args],
            env={**os.environ, **self.env},
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if check and done.returncode:
            raise CommandError(f"kubectl {' '.join(args)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    @property
    def env(self) -> dict[str, str]:
        return {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.cache)}
