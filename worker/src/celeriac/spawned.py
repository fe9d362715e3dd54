"""How is a spawned child of the prefork pool set up? It inherits only the environment from its parent."""

from __future__ import annotations

import os
import socket
from typing import Any

from celeriac import bootstrap
from celeriac.config import application, contract


def set_up_spawned_child(app: Any) -> None:
    """Set up a child of the prefork pool that was spawned and inherits only the environment.

    This is a Celery fixup: Celery calls it with the application that it builds again in such a child. It adds what a
    forked child inherits from its parent, after Celery has imported the tasks and before it prepares to run them.
    """
    loader, celerys = app.loader, app.loader.on_worker_process_init

    def set_up() -> None:
        from celeriac import logs
        from celeriac.hooks import bodies, storing
        from celeriac.policies import published

        celerys()
        app.finalize()
        environment = contract.parse_environment(os.environ, hostname=socket.gethostname())
        config = contract.parse(os.environ[contract.CONFIG_VARIABLE])
        own = application.read_own(app, environment)
        who = bootstrap.named(config, environment)
        formatter = logs.build_formatter(config.logging, always=who, own=own, color=bootstrap.is_colored(config))
        logs.install(formatter, config.logging, app)
        bootstrap.start_sentry(config, who)
        bootstrap.install_events(app)
        published.install()
        storing.install(app)
        logs.install_task_loggers(app)
        bodies.install(app)

    loader.on_worker_process_init = set_up
