"""Every log line says which task wrote it."""

from __future__ import annotations

import re

from demo.scenarios import logs
from demo.shop import Shop

NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml")


def test_a_line_of_each_kind_has_the_promised_format(shop: Shop):
    measured = logs.run(shop)
    assert re.fullmatch(r"\[[-\d]+ [:,\d]+:INFO\] \[-\] .*ready.*", measured.worker_line)
    assert re.fullmatch(r"\[[-\d]+ [:,\d]+:INFO\] \[storefront\.tasks\.pack\] weighing order \S+", measured.code_line)
    assert re.fullmatch(
        r"\[[-\d]+ [:,\d]+:INFO\] Task storefront\.tasks\.pack\[\S+\]: packing order \S+", measured.task_line
    )
