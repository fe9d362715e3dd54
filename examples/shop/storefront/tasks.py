"""The shop's background work: one task for each thing that goes wrong with background work.

`notify` is started once too often, `crawl` must not run twice at a time, `charge` fails, `pack` takes a while and
says what it does, `ask_supplier` never comes back, and `label` comes in bursts.
"""

import logging
import time
import urllib.parse
import urllib.request
from datetime import datetime, timezone
from html.parser import HTMLParser

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.core.mail import send_mail

import celeriac

log = logging.getLogger(__name__)


class PaymentDeclinedError(Exception):
    """The bank said no."""


@shared_task(
    bind=True,
    base=celeriac.Task,
    policy=celeriac.Throttle(key="email", seconds=settings.NOTIFY_WINDOW_SECONDS),
)
def notify(self: celeriac.Task, email: str) -> str:
    """Tell a customer that an order is on its way; at most one e-mail for each address in a window."""
    send_mail(
        subject="Your order is on its way",
        message="It left our warehouse a moment ago.",
        from_email=None,
        recipient_list=[email],
    )
    self.logger.info("told %s", email)
    return email


@shared_task(bind=True, base=celeriac.Task, policy=celeriac.Exclusive(key="site"))
def crawl(self: celeriac.Task, site: str, pause_seconds: float = 0.5) -> dict[str, object]:
    """Read a shop's catalogue page by page, politely; two crawls of one site never overlap."""
    started = datetime.now(timezone.utc)
    address: str | None = urllib.parse.urljoin(site, "/catalogue/1")
    pages = 0
    while address:
        if not address.startswith(("http://", "https://")):
            raise ValueError(f"{site} is not a web address: start it with http:// or https://")
        with urllib.request.urlopen(address, timeout=10) as response:  # noqa: S310 - the scheme is checked above
            following = find_next_page(response.read().decode())
        pages += 1
        address = urllib.parse.urljoin(address, following) if following else None
        time.sleep(pause_seconds)
    self.logger.info("read %d pages of %s", pages, site)
    finished = datetime.now(timezone.utc)
    return {"site": site, "pages": pages, "started": started.isoformat(), "finished": finished.isoformat()}


@shared_task(bind=True, base=celeriac.Task)
def charge(self: celeriac.Task, order: str) -> None:
    """Charge a card that is always declined."""
    raise PaymentDeclinedError(f"the bank declined the card of order {order}")


@shared_task(bind=True, base=celeriac.Task)
def pack(self: celeriac.Task, order: str, seconds: float = 1) -> str:
    """Pack an order, which takes some seconds."""
    self.logger.info("packing order %s", order)
    weigh(order)
    time.sleep(seconds)
    self.logger.info("packed order %s", order)
    return order


def weigh(order: str) -> None:
    """Code that does not use Celery logs as usual, and the worker's format still names the task."""
    log.info("weighing order %s", order)


@shared_task(bind=True, base=celeriac.Task)
def label(self: celeriac.Task, parcel: str, seconds: float = 1) -> str:
    """Print a parcel's label. All orders of a day leave at once, so this queue is full or empty."""
    time.sleep(seconds)
    self.logger.info("printed the label of %s", parcel)
    return parcel


@shared_task(bind=True, base=celeriac.Task)
def ask_supplier(self: celeriac.Task, supplier: str, *, stubborn: bool = False) -> None:
    """Wait for an answer that never comes; a stubborn one goes on waiting after the soft limit."""
    while True:
        try:
            time.sleep(3600)
        except SoftTimeLimitExceeded:
            if not stubborn:
                self.logger.warning("no answer from %s", supplier)
                raise
            self.logger.warning("no answer from %s; waiting on", supplier)


class NextLink(HTMLParser):
    """Finds the address of `<a rel="next">`."""

    def __init__(self) -> None:
        super().__init__()
        self.address: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "a" and attributes.get("rel") == "next":
            self.address = attributes.get("href")


def find_next_page(html: str) -> str | None:
    """Return the address of the page after this one, or None on the last."""
    parser = NextLink()
    parser.feed(html)
    return parser.address
