"""How does a worker start in an image that does not have this library?

An init container puts a copy of this file beside a folder `lib`, which contains the library and its dependencies. The
folder is added to the END of the import path, so packages that the image has installed take precedence. The file runs
on any Python 3, so that old versions print an explanation instead of a SyntaxError.
"""

import os
import sys
from pathlib import Path

OLDEST = (3, 10)
CONFIGURATION = 78  # as in sysexits.h, like the worker's own exit codes


def give_up(sentence: str) -> None:
    """Write the reason to stderr and to the container's termination log, and end."""
    sys.stderr.write("celeriac: " + sentence + "\n")
    path = os.environ.get("CELERIAC_TERMINATION_LOG") or "/dev/termination-log"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_TRUNC), "w") as log:
            log.write(sentence)
    except OSError:
        pass
    sys.exit(CONFIGURATION)


def spare_async_timeout() -> None:
    """Allow redis-py to be imported without the package async-timeout, which only its asynchronous API needs.

    On these versions of Python redis-py imports that package. An init container with a newer Python does not have it,
    and this library does not use the asynchronous API.
    """
    try:
        __import__("async_timeout")
    except ImportError:
        spare = type(sys)("async_timeout")
        spare.__dict__["timeout"] = None
        sys.modules["async_timeout"] = spare


def main() -> None:
    """Make the library importable, then run it as `python -m celeriac` does."""
    here = Path(__file__).resolve().parent
    found = ".".join(str(number) for number in sys.version_info[:3])
    if sys.version_info < OLDEST:
        give_up(
            "The image's Python is " + found + " (" + sys.executable + "), Celeriac needs 3.10 or later: "
            "worker.python may have to name another interpreter"
        )
    # Python puts the script's folder first on the path. `python -m`, like `celery`, has the working directory there.
    if sys.path and Path(sys.path[0]).resolve() == here:
        sys.path[0] = str(Path.cwd())
    sys.path.append(str(here / "lib"))
    if sys.version_info < (3, 11, 3):
        spare_async_timeout()
    try:
        from celeriac.__main__ import main as run
    except ImportError as error:
        give_up(
            "The worker library cannot be imported from " + str(here) + " (" + str(error) + "): let the init container "
            "run again, or look at its log"
        )
    sys.exit(run())


if __name__ == "__main__":
    main()
