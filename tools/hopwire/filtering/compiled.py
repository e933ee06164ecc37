"""Reads a filter by recursive descent and makes a function of it. Pure.

    filter     = and-terms { "or" and-terms }
    and-terms  = term { "and" term }
    term       = "not" term | "(" filter ")" | comparison
    comparison = field [ operator value ] | field "in" "(" value { "," value } ")"
    operator   = "==" | "!=" | "<" | "<=" | ">" | ">=" | "~"

``~`` asks whether a word begins so. A field alone asks whether it is true, or there and not 0.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from hopwire.events import FrameSeen
from hopwire.roster import Roster

from .fields import FIELDS, Context, Field, Kind, read_value
from .tokens import Token, failure, tokenize

NESTING_MAX = 50
_KEYWORDS = frozenset({"and", "or", "not", "in"})

Test = Callable[[Context], bool]

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Filter:
    """Made by :func:`compile_filter`."""

    def __init__(self, source: str, test: Test) -> None:
        self.source = source
        self._test = test

    def passes(self, seen: FrameSeen, roster: Roster) -> bool:
        """Whether the frame is chosen."""
        return self._test(Context(seen, roster))


def compile_filter(source: str) -> Filter:
    """Make a filter.

    :raises FilterError: it cannot be understood; the text shows where, and what would be.
    """
    parser = _Parser(source)
    test = parser.alternatives(0)
    parser.expect_end()
    return Filter(source, test)


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = tokenize(source)
        self._next = 0

    # -- tokens ----------------------------------------------------------------------------------------------------

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._token
        self._next += 1
        return token

    def _accept(self, text: str) -> bool:
        """Take this operator or keyword, if it is next."""
        if self._token.kind != "text" and self._token.text == text:
            self._next += 1
            return True
        return False

    def _fail(self, why: str, token: Token | None = None) -> Exception:
        return failure(self._source, (token or self._token).at, why)

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._fail(f"{text!r} is missing")

    def expect_end(self) -> None:
        """Nothing may follow."""
        if self._token.kind != "end":
            raise self._fail(f"{self._token.text!r} is too much: join comparisons with and, or")

    # -- the grammar -----------------------------------------------------------------------------------------------

    def alternatives(self, depth: int) -> Test:
        """A filter."""
        tests = [self._all_of(depth)]
        while self._accept("or"):
            tests.append(self._all_of(depth))
        return tests[0] if len(tests) == 1 else lambda context: any(test(context) for test in tests)

    def _all_of(self, depth: int) -> Test:
        tests = [self._term(depth)]
        while self._accept("and"):
            tests.append(self._term(depth))
        return tests[0] if len(tests) == 1 else lambda context: all(test(context) for test in tests)

    def _term(self, depth: int) -> Test:
        if depth > NESTING_MAX:
            raise self._fail(f"nested deeper than {NESTING_MAX}")
        if self._accept("not"):
            test = self._term(depth + 1)
            return lambda context: not test(context)
        if self._accept("("):
            inner = self.alternatives(depth + 1)
            self._expect(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Test:
        name = self._take()
        if name.kind != "word" or name.text in _KEYWORDS:
            raise self._fail("a field is missing", name) if name.kind == "end" else self._unknown(name)
        field = FIELDS.get(name.text)
        if field is None:
            raise self._unknown(name)
        if self._accept("in"):
            return self._one_of(field)
        token = self._token
        if token.kind != "operator" or token.text in "(),":
            return _alone(field)
        self._take()
        return self._compare(field, token)

    def _unknown(self, name: Token) -> Exception:
        return self._fail(f"{name.text!r} is no field; known are {', '.join(FIELDS)}", name)

    def _one_of(self, field: Field) -> Test:
        self._expect("(")
        values = [self._value(field)]
        while self._accept(","):
            values.append(self._value(field))
        self._expect(")")
        tests = [_equal(field, value) for value in values]
        return lambda context: any(test(context) for test in tests)

    def _value(self, field: Field) -> Any:
        token = self._take()
        if token.kind not in ("word", "text"):
            raise self._fail("a value is missing", token)
        try:
            return read_value(field.kind, token.text)
        except ValueError as error:
            raise self._fail(str(error), token) from None

    def _compare(self, field: Field, token: Token) -> Test:
        get = field.get
        if token.text == "~":
            if field.kind is not Kind.NAME:
                raise self._fail("~ is for words", token)
            begins = self._value(field)
            return lambda context: str(get(context) or "").startswith(begins)
        value = self._value(field)
        if token.text == "==":
            return _equal(field, value)
        if token.text == "!=":
            equal = _equal(field, value)
            return lambda context: not equal(context)
        if field.kind not in (Kind.NUMBER, Kind.SECONDS):
            raise self._fail(f"{token.text} is for numbers", token)
        order = _ORDERS[token.text]

        def test(context: Context) -> bool:
            found = get(context)
            return isinstance(found, int | float) and order(found, value)

        return test


def _equal(field: Field, value: Any) -> Test:
    get = field.get
    if field.kind is Kind.TYPE:
        return lambda context: value in get(context)
    return lambda context: bool(get(context) == value)


def _alone(field: Field) -> Test:
    get = field.get
    return lambda context: bool(get(context))
