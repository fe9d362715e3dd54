"""What does a worker need of its image before it starts?

The patches of a green pool must come before any other import. The rest is checked when the application is known. If
something is missing, the worker prints one sentence instead of a traceback.
"""

from __future__ import annotations

import importlib
import os

from celeriac import brokers
from celeriac.config import application
from celeriac.config.application import Start
from celeriac.config.contract import Config
from celeriac.config.installed import LEAST, releases, version
from celeriac.config.together import refused_by_kombu
from celeriac.exits import Exit, GivingUpError


def patch_green_pools(config: Config) -> None:
    """Let gevent or eventlet patch the standard library before other modules import it.

    Raises:
        GivingUpError: gevent or eventlet is not in the image.
    """
    if config.worker.pool not in {"gevent", "eventlet"}:
        return
    try:
        # This must come before Celery is imported, because Celery keeps the sockets and the sleep function that it
        # finds. Celery's own patching is too late: gevent inspects every module that exists, and this imports all of
        # Celery and kombu.
        patch_standard_library(config.worker.pool)
    except ImportError as error:
        raise GivingUpError(
            f"worker.pool is {config.worker.pool}, which the image cannot import ({error}): install it there",
            Exit.CONFIGURATION,
        ) from None
    try:
        from celery import maybe_patch_concurrency
    except ImportError:
        application.import_celery()  # the package says so
        raise
    maybe_patch_concurrency(["celery", "worker", "-P", config.worker.pool])


def require_releases(start: Start) -> None:
    """Check that the image's redis-py is new enough, before anything connects.

    Raises:
        GivingUpError: redis-py is too old for the library, or for kombu, which would notice only when it connects.
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
    if refusal := refused_by_kombu():
        raise GivingUpError(
            f"The image has kombu {version('kombu')} and redis-py {version('redis')}, which do not go together "
            f"({refusal}): install a newer redis-py there, or an older kombu",
            Exit.CONFIGURATION,
        )


def require_custom_pool(config: Config) -> None:
    """Check that Celery finds the pool that the image brings. The application may have named it while it was imported.

    Raises:
        GivingUpError: no pool is named.
    """
    if config.worker.pool == "custom" and not os.environ.get("CELERY_CUSTOM_WORKER_POOL"):
        raise GivingUpError(
            "worker.pool is custom, and no variable CELERY_CUSTOM_WORKER_POOL names the class of the pool "
            "(package.module:Class): set it in template.env",
            Exit.CONFIGURATION,
        )


def patch_standard_library(pool: str) -> None:
    """Replace blocking functions of the standard library by functions that let other green threads run."""
    module, function = {"gevent": ("gevent.monkey", "patch_all"), "eventlet": ("eventlet", "monkey_patch")}[pool]
    getattr(importlib.import_module(module), function)()
