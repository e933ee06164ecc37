"""Text of a peer's or a file's making, fit for a terminal."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: object) -> str:
    r"""``text`` with all that steers a terminal, or hides, written as an escape such as ``\x1b``."""
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shown)


def shown_value(value: object, length_max: int = 200) -> str:
    """A decoded value in a few words: bytes as hexadecimal digits, texts quoted, maps and lists as in JSON."""
    text = _shown(value, length_max)
    return text if len(text) <= length_max else text[: length_max - 1] + "…"


def _shown(value: object, room: int) -> str:
    if room <= 0:
        return "…"
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value[: room // 2 + 1]).hex() or '""'
    if isinstance(value, str):
        return '"' + printable(value[: room + 1]).replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{" + _joined(((f"{printable(str(key)[:room])}: ", item) for key, item in value.items()), room) + "}"
    if isinstance(value, list | tuple):
        return "[" + _joined((("", item) for item in value), room) + "]"
    return printable(value)


def _joined(items: Iterable[tuple[str, object]], room: int) -> str:
    parts: list[str] = []
    for label, item in items:
        if room <= 0:
            parts.append("…")
            break
        parts.append(label + _shown(item, room))
        room -= len(parts[-1]) + 2
    return ", ".join(parts)
