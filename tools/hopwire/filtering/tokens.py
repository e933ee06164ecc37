"""Cuts a filter into tokens. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hopwire.errors import FilterError

FILTER_CHARACTERS_MAX = 4096

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<operator>==|!=|<=|>=|<|>|~|\(|\)|,)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<word>[A-Za-z0-9_.:/@+-]+)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a filter.

    :param kind: ``operator``, ``text`` (quoted), ``word``, or ``end``.
    :param at: the character it begins at, from 0.
    """

    kind: str
    text: str
    at: int


def failure(source: str, at: int, why: str) -> FilterError:
    """An error that shows where."""
    return FilterError(f"{why}, at character {at + 1}:\n  {source}\n  {' ' * at}^")


def tokenize(source: str) -> list[Token]:
    """All tokens, the last of which is ``end``.

    :raises FilterError: a character that begins none, or a filter that is too long.
    """
    if len(source) > FILTER_CHARACTERS_MAX:
        raise FilterError(f"a filter of {len(source)} characters; at most {FILTER_CHARACTERS_MAX} are read")
    tokens: list[Token] = []
    at = 0
    while source[at:].strip():
        found = _TOKEN.match(source, at)
        if found is None:
            begin = at + len(source[at:]) - len(source[at:].lstrip())
            what = "a text that does not end" if source[begin] in "\"'" else f"{source[begin]!r} means nothing here"
            raise failure(source, begin, what)
        kind = str(found.lastgroup)
        text = found.group(kind)
        begin = found.start(kind)
        if kind == "text":
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        tokens.append(Token(kind, text, begin))
        at = found.end()
    return [*tokens, Token("end", "", len(source))]
