"""What does a child of the prefork pool need that was started anew, and inherits nothing but the environment?"""

from __future__ import annotations

import os
import socket
from typing import Any

from celeriac import bootstrap
from celeriac.config import application, contract


def set_up_spawned_child(app: Any) -> None:
    """Set up a child of the prefork pool that was started anew, and inherits nothing but the environment.

    One of Celery's fix-ups: called with the application that Celery builds again in such a child. What a forked child
    has from its parent is made here, once Celery has imported the tasks and before it prepares to run them.
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
