"""(pure) How is an image shown in a column of `kubectl get`? Without its registry and path, and bounded."""

from __future__ import annotations

from typing import Final

DIGEST_CHARACTERS: Final = 12
"""Hexadecimal digits of a digest that are shown, as docker and podman do."""

WIDTH: Final = 32
"""Longest text; a longer one loses its middle, since the version stands at its end."""


def image(reference: str) -> str:
    """The last part of an image's name with its tag, else with its digest."""
    name, version = _split(reference)
    text = f"{name}{version}"
    return text if len(text) <= WIDTH else f"{text[: WIDTH // 2 - 1]}…{text[-WIDTH // 2 :]}"


def version(reference: str) -> str:
    """The tag of an image, else the beginning of its digest; empty: it has neither."""
    return _split(reference)[1].lstrip(":@")[:WIDTH]


def _split(reference: str) -> tuple[str, str]:
    """The name without its path, and `:tag` or `@sha256:…` with its sign."""
    tagged, _, digest = reference.partition("@")
    name, colon, tag = tagged.rpartition("/")[2].partition(":")
    if colon:
        return name, f":{tag}"
    kind, _, digits = digest.partition(":")
    return name, f"@{kind}:{digits[:DIGEST_CHARACTERS]}" if digest else ""
