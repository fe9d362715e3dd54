"""(pure) Makes text that others have chosen safe to show: in a log line, a condition, an event.

Host names, error messages of servers, last words of containers and names in templates are chosen by tenants. Unchanged,
they could forge a log line, clear a terminal, or be megabytes long.
"""

from __future__ import annotations

from typing import Final

LIMIT: Final = 200
"""Characters that are shown unless the caller says otherwise."""


def printable(value: object, *, limit: int = LIMIT) -> str:
    r"""One line of text without effect on the place where it is printed.

    Control characters (line breaks, terminal escape sequences), invisible characters, marks that change the direction
    of writing and lone surrogates become Python's escapes (`\n`, `\x1b`, `\u202e`, `\ud800`).

    Args:
        value: a text; of anything else its `str`.
        limit: the longest result, in characters. What is longer is cut, and its end says how long it was.
    """
    text = value if isinstance(value, str) else str(value)
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(map(_escaped, text[: limit + 1]))
    if len(text) <= limit and len(shown) <= limit:
        return shown
    note = f"… ({len(text)} characters)"
    return shown[: max(0, limit - len(note))] + note


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
