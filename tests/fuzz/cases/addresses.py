"""Addresses that no container can keep, and answers about them that are none."""

from __future__ import annotations

from typing import Any

from fuzz.cases.case import Case, case
from fuzz.targets.addresses import ENDPOINT
from streamhop_protocol.errors import LimitError, MalformedError, UnexpectedError
from streamhop_protocol.wirepack import pack


def _wish(**changed: Any) -> bytes:
    return pack({"must": True, "endpoints": [{**ENDPOINT.to_wire(), **changed}]})


CASES: list[Case] = [
    case("kept_addresses", "mac-of-a-group", _wish(mac="01:00:5e:00:00:01"), MalformedError, "a group's"),
    case("kept_addresses", "name-that-is-a-path", _wish(network="../hall"), MalformedError, "network"),
    case("kept_addresses", "segment-that-steers-a-terminal", _wish(segment="\x1b[2J"), MalformedError, "segment"),
    case("kept_addresses", "address-with-a-zone", _wish(addresses=["fe80::1%eth0/64"]), MalformedError, "prefix"),
    case(
        "kept_addresses", "two-of-one-kind", _wish(addresses=["10.0.0.1/8", "10.0.0.2/8"]), MalformedError, "one kind"
    ),
    case(
        "kept_addresses",
        "too-many",
        pack({"must": True, "endpoints": [ENDPOINT.to_wire()] * 33}),
        LimitError,
        "at most 32",
    ),
    case("kept_addresses", "must-is-a-number", pack({"must": 1, "endpoints": []}), MalformedError, "must"),
    case("kept_answer", "keep-is-a-number", pack({"keep": 1}), UnexpectedError, "keep"),
    case("kept_answer", "reason-too-long", pack({"keep": False, "reason": "x" * 301}), UnexpectedError, "short"),
]
