"""The same job started several times runs once."""

from __future__ import annotations

import json
from html.parser import HTMLParser

from demo.scenarios import notify
from demo.shop import Shop

NEEDS = ("redis.yaml", "mail.yaml", "sentry.yaml", "shop.yaml")


def test_five_clicks_send_one_email_and_the_next_after_the_window_a_second(shop: Shop):
    measured = notify.run(shop)
    assert measured.mails_in_window == 1
    assert measured.mails_after == 2


def test_a_click_for_another_customer_is_not_held_back(shop: Shop):
    customers = [f"{shop.name('customer')}@shop.example" for _ in range(2)]
    tasks = [shop.start("notify", email=customer) for customer in customers]
    assert [shop.wait_for_result(task, seconds=60).state for task in tasks] == ["SUCCESS", "SUCCESS"]
    assert [len(shop.mails(customer)) for customer in customers] == [1, 1]


def test_the_front_page_has_a_button_that_starts_each_task(shop: Shop):
    address = f"api/v1/namespaces/{shop.kube.namespace}/services/shop:http/proxy/"
    page = Buttons()
    page.feed(shop.kube.request("GET", address))
    assert list(page.found) == ["notify", "pack", "charge", "ask_supplier", "label"]
    assert all(shop.start(task, **json.loads(arguments)) for task, arguments in page.found.items())


class Buttons(HTMLParser):
    """What each button of a page starts, and with which arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "button":
            self.found[str(attributes["data-task"])] = str(attributes["data-arguments"])
