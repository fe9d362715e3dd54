"""What does a worker need of its image before it starts?

A green pool's patches come before anything else is imported; the rest is checked when the application is known. What
is missing is one sentence, and not a traceback of the library that misses it.
"""

from __future__ import annotations

import importlib
import os

from celeriac import brokers
from celeriac.config import application
from celeriac.config.application import Start
from celeriac.config.contract import Config
from celeriac.config.installed import LEAST, releases, version
from celeriac.exits import Exit, GivingUpError


def patch_green_pools(config: Config) -> None:
    """Let gevent or eventlet patch the standard library before anything imports it.

    Raises:
        GivingUpError: the image does not have it.
    """
    if config.worker.pool not in {"gevent", "eventlet"}:
        return
    try:
        # Before anything of Celery's, which keeps the sockets and the sleep that it finds. Celery's own patching is too
        # late: gevent looks into every module there is, and that look imports the whole of Celery and kombu.
        patch_standard_library(config.worker.pool)
    except ImportError as error:
        raise GivingUpError(
            f"worker.pool is {config.worker.pool}, which the image cannot import ({error}): install it there",
            Exit.CONFIGURATION,
        ) from None
    try:
        from celery import maybe_patch_concurrency
    except ImportError:
        application.import_celery()  # says so
        raise
    maybe_patch_concurrency(["celery", "worker", "-P", config.worker.pool])


def require_releases(start: Start) -> None:
    """Check that the image's redis-py can do what is asked of it, before anything connects.

    Raises:
        GivingUpError: it is too old, for the library or for kombu, which says so only when it connects.
    """
    if not brokers.of_settings(start.app.conf).has_leases:
        return
    found, oldest = releases(["redis"]).get("redis"), LEAST["redis"]
    if found is not None and found < oldest:
        raise GivingUpError(
            f"The image has redis-py {version('redis')}, and the Redis broker needs {'.'.join(map(str, oldest))} or "
            "later: install a newer one there",
            Exit.CONFIGURATION,
        )


def require_custom_pool(config: Config) -> None:
    """Check that Celery finds the pool that the image brings; the application may have named it while it was imported.

    Raises:
        GivingUpError: nobody has named it.
    """
    if config.worker.pool == "custom" and not os.environ.get("CELERY_CUSTOM_WORKER_POOL"):
        raise GivingUpError(
            "worker.pool is custom, and no variable CELERY_CUSTOM_WORKER_POOL names the class of the pool "
            "(package.module:Class): set it in template.env",
            Exit.CONFIGURATION,
        )


def patch_standard_library(pool: str) -> None:
    """Replace what blocks by what lets other green threads run."""
    module, function = {"gevent": ("gevent.monkey", "patch_all"), "eventlet": ("eventlet", "monkey_patch")}[pool]
    getattr(importlib.import_module(module), function)()
