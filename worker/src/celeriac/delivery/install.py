"""Installs the transport that delivers messages to this worker's tasks without loss.

The worker's start-up calls `install` once, after the application was imported and before Celery's worker is made. On a
Redis broker (also behind TLS or Sentinel) it installs the transport with the atomic fetch, and returns the object that
the rest of the library uses for deliveries. Any other broker has its own acknowledgements: the transport is not
changed, and `install` returns `None`. `count_deliveries` then limits the deliveries where the broker does not.

**Promise.** A message is delivered at least once, whichever process is killed, if Redis keeps its data. **Limits.** A
task runs twice if its worker dies, or is cut off for longer than the lease, after the task began and before its end
reached Redis. If Redis loses its last second of writes (AOF `everysec`, or no AOF), the changes of that second are
lost.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

from celeriac import brokers
from celeriac.delivery import refusing
from celeriac.delivery.amqp.counted import CountedDeliveries
from celeriac.delivery.amqp.publisher import Publisher
from celeriac.delivery.callers import FLUSH_SECONDS, Callers
from celeriac.hooks.prefork import remember_sent
from celeriac.hooks.requests import Listener
from celeriac.store.connections import broker_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.config.contract import Config
    from celeriac.delivery.holdings import Holdings
    from celeriac.delivery.renewal import LeaseRenewal
    from celeriac.delivery.values.dead_entry import DeadEntry
    from celeriac.exceptions import DeadLetterError
    from celeriac.metrics.tally import Snapshot

logger = logging.getLogger(__name__)

DEFAULT_LEASE_SECONDS: Final = 60
"""A dead worker's messages are redelivered after about a minute; a node may pause for less without losing leases."""
DEFAULT_MAX_DELIVERIES: Final = 5


class Deliveries(Listener):
    """The deliveries of this process."""

    def __init__(self, app: Any, holdings: Holdings, renewal: LeaseRenewal) -> None:
        self.app = app
        self.holdings = holdings
        self.renewal = renewal
        holdings.on_watch = renewal.start
        self.refusals = refusing.Refusals(holdings)
        self.callers = Callers(app)
        holdings.keeps = self._runs_on
        holdings.is_leaving = _is_leaving

    def run_ended(self, request: Any) -> None:
        """Note that a delivery's run has ended; its acknowledgement follows.

        Celery has not removed the request from its active set yet. If the channel is closed from now on, this note
        keeps the message from being given back.
        """
        self.holdings.mark_ended(request.message.delivery_tag)

    def tell_figures(self, pool: str, *, worker: Callable[[], Any], counted: Callable[[], Snapshot]) -> None:
        """Report this worker to the operator's autoscaler; see `AutoscalingReport` for the arguments."""
        from celeriac.delivery.autoscaling_report import AutoscalingReport

        options = self.app.conf.broker_transport_options or {}
        self.holdings.figures = AutoscalingReport(pool, options, worker=worker, counted=counted)

    def on_dead_letter(self, *others: Callable[[DeadEntry, DeadLetterError], object]) -> None:
        """Tell the callers of a dead-lettered task, and also call these functions."""

        def tell(entry: DeadEntry, error: DeadLetterError) -> None:
            for it in (self.callers.tell, *others):
                it(entry, error)

        self.holdings.on_dead_letter = tell

    def begin_anew(self) -> None:
        """Let a forked process, such as a child of a prefork pool, hold its own messages."""
        self.holdings.begin_anew()
        self.renewal.begin_anew()

    def leave(self) -> None:
        """Send the remaining reports, within seconds, and stop renewing leases."""
        self.callers.flush(FLUSH_SECONDS)
        self.renewal.leave()

    def close(self) -> None:
        """Stop renewing leases; for tests, since the process of a worker ends in any case."""
        from celeriac.delivery import transport

        self.renewal.stop()
        transport.unregister(self.holdings)

    def _runs_on(self, delivery: str) -> bool:
        """Return whether a delivery's task goes on when the connection that delivered it is closed."""
        from celery.worker import state

        if _is_leaving():
            return False
        if any(_delivery_of(request) == delivery for request in list(state.active_requests)):
            return True
        waiting = [request for request in list(state.reserved_requests) if _delivery_of(request) == delivery]
        return any(_is_certain_to_run(request) for request in waiting)


def install(app: Any, config: Config, *, pod: str) -> Deliveries | None:
    """Install the transport with atomic fetch and leases; return `None` if the broker is not Redis.

    Args:
        app: the application; its configuration must be final.
        config: the pool's document: `delivery.lease_seconds` and `delivery.max_deliveries`.
        pod: the pod's name, for the history of messages.
    """
    broker = brokers.of_settings(app.conf)
    if not broker.is_redis:
        return None
    if not broker.has_leases:
        logger.warning(
            "broker_transport is %r: the atomic fetch and leases are off, and a killed worker's tasks wait for the "
            "visibility timeout",
            broker.transport,
        )
        return None

    import kombu.transport

    from celeriac.delivery import transport
    from celeriac.delivery.holdings import Holdings
    from celeriac.delivery.renewal import LeaseRenewal

    options = dict(app.conf.broker_transport_options or {})
    holdings = Holdings(
        lambda: broker_client(app),
        lease_seconds=config.delivery.lease_seconds or DEFAULT_LEASE_SECONDS,
        prefix=options.get("global_keyprefix") or "",
        where=f"{config.pool.namespace}/{pod}",
        max_deliveries=config.delivery.max_deliveries or DEFAULT_MAX_DELIVERIES,
    )
    transport.register(holdings)
    for alias, path in brokers.TRANSPORTS.items():
        # This is kombu's own table: it is read for the scheme of each URL, also after a failover to another URL.
        kombu.transport.TRANSPORT_ALIASES[alias] = path
        kombu.transport._transport_cache.pop(alias, None)  # type: ignore[attr-defined]  # not in the stubs
    app.conf.broker_transport_options = {**options, transport.OPTION: holdings.identity}
    deliveries = Deliveries(app, holdings, LeaseRenewal(holdings))
    os.register_at_fork(after_in_child=deliveries.begin_anew)
    return deliveries


def count_deliveries(app: Any, config: Config, *, pod: str) -> CountedDeliveries | refusing.NoRefusals:
    """Limit the deliveries of a broker without leases: RabbitMQ's are counted, those of others are left to Celery.

    Args:
        app: the application; its configuration must be final.
        config: the pool's document: `delivery.max_deliveries`.
        pod: the pod's name, for the history of messages.
    """
    if not brokers.of_settings(app.conf).counts_by_copy:
        return refusing.NoRefusals(Callers(app))
    publisher = Publisher(app)
    os.register_at_fork(after_in_child=publisher.begin_anew)
    return CountedDeliveries(
        app,
        publisher,
        max_deliveries=config.delivery.max_deliveries or DEFAULT_MAX_DELIVERIES,
        where=f"{config.pool.namespace}/{pod}",
    )


def _is_leaving() -> bool:
    from celery.worker import state

    return any(flag is not None and flag is not False for flag in (state.should_stop, state.should_terminate))


def _is_certain_to_run(request: Any) -> bool:
    """Return whether a task that has not begun will still begin after its connection is lost.

    Celery then discards the requests that wait for a free slot, and its prefork pool those that were not sent to a
    child yet. Other pools run every request that they were given.
    """
    reference = request._apply_result
    if reference is None:
        return False
    is_prefork = hasattr(reference(), "_write_to")
    return remember_sent(request) if is_prefork else True


def _delivery_of(request: Any) -> str:
    return str(request.message.delivery_tag)
