"""Do the packages of the image go together?

Releases of kombu differ in the oldest redis-py that they take, and an image may pin both.
"""

from __future__ import annotations

from types import SimpleNamespace


def refused_by_kombu() -> str:
    """What kombu says against the installed redis-py, as it would when it connects to Redis; empty if it takes it."""
    from kombu.exceptions import VersionMismatch
    from kombu.transport.redis import Channel

    try:
        # The method compares versions and connects to nothing. kombu calls it when a channel is opened.
        vars(Channel)["_get_client"](SimpleNamespace(global_keyprefix=""))
    except VersionMismatch as error:
        return str(error)
    return ""
