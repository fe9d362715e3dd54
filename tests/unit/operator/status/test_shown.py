"""Columns of kubectl get stay narrow whatever an image is called."""

from __future__ import annotations

import pytest

from celeriac_operator.status import shown

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("reference", "image", "version"),
    [
        ("shop:1.4", "shop:1.4", "1.4"),
        ("registry.example:5000/team/shop:1.4", "shop:1.4", "1.4"),
        ("shop", "shop", ""),
        ("registry.example:5000/shop", "shop", ""),
        (f"ghcr.io/team/shop@{DIGEST}", "shop@sha256:0123456789ab", "sha256:0123456789ab"),
        (f"ghcr.io/team/shop:1.4@{DIGEST}", "shop:1.4", "1.4"),
        ("a/" + "long-" * 20 + ":2026-11-30.1", "long-long-long-…ng-:2026-11-30.1", "2026-11-30.1"),
        ("shop:" + "x" * 128, "shop:xxxxxxxxxx…xxxxxxxxxxxxxxxx", "x" * 32),
        ("", "", ""),
    ],
)
def test_an_image_in_a_column(reference: str, image: str, version: str) -> None:
    assert (shown.image(reference), shown.version(reference)) == (image, version)
    assert len(shown.image(reference)) <= shown.WIDTH
