"""Rates, durations, shares and sizes as people write them."""

from __future__ import annotations

import pytest

from hoplab.errors import UsageError
from hoplab.units import parse_duration, parse_rate, parse_share, parse_size


@pytest.mark.parametrize(
    ("text", "bits"),
    [("20mbit", 20_000_000), ("5.5mbit", 5_500_000), ("1Gbit", 10**9), ("64 kbit", 64_000), (9600, 9600), (None, None)],
)
def test_a_rate(text: str | float | None, bits: int | None) -> None:
    assert parse_rate(text) == bits


@pytest.mark.parametrize("text", ["", "20", "mbit", "20mbps", "-5mbit", "1bit", "90gbit", "20mbit;reboot", "nan"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("50ms", 0.05), ("1.5s", 1.5), ("200us", 0.0002), (0.02, 0.02), ("0ms", None), (None, None)]
)
def test_a_duration(text: str | float | None, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("text", ["50", "11s", "-1ms", "5min", -0.1])
def test_what_is_no_duration(text: str | float) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("0.25", 0.25), (0.5, 0.5), (None, 0.0), ("0%", 0.0)])
def test_a_share(text: str | float | None, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["100%", "1", "-1%", "1ms", 1.5])
def test_what_is_no_share(text: str | float) -> None:
    with pytest.raises(UsageError):
        parse_share(text)


@pytest.mark.parametrize(("text", "size"), [("400m", 400 << 20), ("2G", 2 << 30), ("512", 512), (7, 7)])
def test_a_size(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["0", "-1m", "1mb", "big", 0])
def test_what_is_no_size(text: str | int) -> None:
    with pytest.raises(UsageError):
        parse_size(text)
