"""(pure) Makes text from messages safe to show.

Names, ids, arguments and reasons come from messages, and any client that can write to the broker chooses them. Printed
unchanged, they could clear a terminal, fill its clipboard, forge a log line, or be megabytes long.
"""

from __future__ import annotations

from typing import Final

LIMIT: Final = 200
"""Characters of a value that are shown unless the caller says otherwise."""


def printable(value: object, *, limit: int = LIMIT) -> str:
    r"""One line of text without effect on the place where it is printed.

    Control characters (terminal escape sequences, newlines, tabs), invisible characters, marks that change the
    direction of writing and lone surrogates become Python's escapes (`\x1b`, `\n`, `\u202e`, `\ud800`). The result can
    always be encoded as UTF-8. It is for people to read and cannot be turned back: a backslash stays as it is.

    Args:
        value: a text; bytes are read as UTF-8; of anything else its `str`.
        limit: the longest result, in characters. What is longer is cut, and its end says how long it was.
    """
    text = _text(value)
    shown = "".join(map(_escaped, text[: limit + 1]))
    if len(text) <= limit and len(shown) <= limit:
        return shown
    note = f"… ({len(text)} characters)"
    return shown[: max(0, limit - len(note))] + note


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    try:
        return str(value)
    except (RecursionError, ValueError):  # nested too deeply; a number of more digits than Python converts
        return f"<{type(value).__name__}>"


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
