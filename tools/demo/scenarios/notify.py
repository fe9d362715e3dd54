"""A button pressed five times sends one e-mail; pressed again after the window, a second."""

from __future__ import annotations

import time
from dataclasses import dataclass

from demo import waiting
from demo.shop import Shop

CLICKS = 5
WINDOW_SECONDS = 30.0  # the shop's NOTIFY_WINDOW_SECONDS
MARGIN_SECONDS = 1.0  # the window is kept by Redis' clock and begins when the click reaches Redis


@dataclass(frozen=True)
class Measured:
    """E-mails that the mail server received."""

    clicks: int
    mails_in_window: int
    mails_after: int
    seconds_to_mail: float

    def sentence(self) -> str:
        return (
            f"{self.clicks} clicks: {self.mails_in_window} e-mail, received after {self.seconds_to_mail:.1f} s; "
            f"1 click after the {WINDOW_SECONDS:g} s window: {self.mails_after - self.mails_in_window} more"
        )

    def shortfall(self) -> str | None:
        if self.mails_in_window != 1:
            return f"one e-mail was promised for {self.clicks} clicks within {WINDOW_SECONDS:g} s"
        if self.mails_after != 2:
            return "a second e-mail was promised for the click after the window"
        return None


def run(shop: Shop, window_seconds: float = WINDOW_SECONDS) -> Measured:
    """Click, count, wait for the window to pass, click once more, count again."""
    customer = f"{shop.name('customer')}@shop.example"
    began = time.monotonic()
    for _ in range(CLICKS):
        shop.start("notify", email=customer)
    last_click = time.monotonic()
    waiting.until("an e-mail arrives", lambda: len(shop.mails(customer)), lambda count: count >= 1, seconds=60)
    seconds_to_mail = time.monotonic() - began
    # The window itself is what is measured: nothing else says that it is over. It may begin as late as the last click.
    time.sleep(max(0.0, last_click + window_seconds + MARGIN_SECONDS - time.monotonic()))
    in_window = len(shop.mails(customer))
    # The last task started is the last to run (one queue, oldest first), so its e-mail is the last to come.
    shop.wait_for_result(shop.start("notify", email=customer), seconds=60)
    return Measured(CLICKS, in_window, len(shop.mails(customer)), seconds_to_mail)
