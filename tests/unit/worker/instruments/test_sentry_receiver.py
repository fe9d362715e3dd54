from __future__ import annotations

import gzip
import json

import pytest
from tests.receivers.sentry_receiver import decompress, parse_envelope


@pytest.mark.parametrize(
    ("body", "items"),
    [
        pytest.param(
            b'{"event_id":"1"}\n{"type":"event","length":13}\n{"a":"x\\ny"}  \n{"type":"transaction"}\n{"b":2}\n',
            [("event", {"a": "x\ny"}), ("transaction", {"b": 2})],
            id="an item with a length and one that ends with its line",
        ),
        pytest.param(b'{}\n{"type":"attachment","length":3}\n\xff\xfe\n\n', [], id="an attachment is left out"),
        pytest.param(b"{}\n", [], id="no item at all"),
    ],
)
def test_the_items_of_an_envelope(body: bytes, items: list[object]) -> None:
    assert list(parse_envelope(body)) == items


def test_a_compressed_envelope_is_read() -> None:
    body = json.dumps({"a": 1}).encode()
    assert decompress(gzip.compress(body), "gzip") == body
    with pytest.raises(ValueError, match="br is not known"):
        decompress(body, "br")
