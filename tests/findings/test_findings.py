"""Findings have one form, whoever makes them; those of a peer are checked before they are believed."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamhop
from streamhop.engine.known_bad import KNOWN_BAD
from streamhop.findings import (
    CATALOGUE,
    FINDINGS_MAX,
    Finding,
    Severity,
    findings_from_wire,
    findings_to_wire,
    found,
    refusing,
    told,
    warning,
)
from streamhop.findings.wire import TEXT_BYTES_MAX
from streamhop_protocol.errors import LimitError, MalformedError, ProtocolError

SOURCES = Path(streamhop.__file__).parent
DOCUMENT = SOURCES.parent / "docs" / "preflight.md"

REFUSES = Finding("target.port", "port 80 is taken", "free it", "one owner", "a page")
WARNS = Finding("kernel.older", "an older kernel", severity=Severity.WARNS)


def test_a_finding_knows_whether_it_stops_a_move() -> None:
    assert (refusing([REFUSES, WARNS]), warning([REFUSES, WARNS])) == ([REFUSES], [WARNS])


def test_the_catalogue_gives_what_all_of_a_kind_have_in_common() -> None:
    finding = found("kernel.older", "5.10 is older than 6.18", "upgrade")
    assert (finding.severity, finding.reason, finding.fix) == (Severity.WARNS, "5.10 is older than 6.18", "upgrade")
    assert finding.why


def test_every_kind_that_the_code_names_is_in_the_catalogue_and_each_there_is_named_by_the_code() -> None:
    text = "\n".join(path.read_text() for path in SOURCES.rglob("*.py") if path.parent.name != "findings")
    quoted = set(re.findall(r'"((?:container|policy|host|kernel|target|peer|check|workload)\.[a-z-]+)"', text))
    policy = {f"policy.{kind}" for kind in re.findall(r'_refusal\(\s*"([a-z-]+)"', text)}
    programs = {f"host.{name}-{what}" for name in ("runc", "criu") for what in ("missing", "old")}
    containers = {name for name in CATALOGUE if re.search(rf'found\(\s*"{re.escape(name)}"', text)}
    assert set(CATALOGUE) == (quoted & set(CATALOGUE)) | policy | programs | containers
    assert policy <= set(CATALOGUE)


def test_every_kind_is_in_the_document_with_its_severity() -> None:
    rows = dict(re.findall(r"^\| `([a-z0-9.-]+)` \| (refuses|warns) \|", DOCUMENT.read_text(), re.MULTILINE))
    known = {name: kind.severity.value for name, kind in CATALOGUE.items()}
    known |= {entry.id: entry.severity.value for entry in KNOWN_BAD}
    assert rows == known


def test_over_the_wire_and_back() -> None:
    assert findings_from_wire(findings_to_wire([WARNS, REFUSES])) == [REFUSES, WARNS]
    assert told(REFUSES) == {
        "id": "target.port",
        "severity": "refuses",
        "what": "port 80 is taken",
        "why": "one owner",
        "reference": "a page",
        "fix": "free it",
    }


def test_too_many_and_too_long_ones_are_cut_and_those_that_refuse_are_not_lost() -> None:
    many = [*[WARNS] * FINDINGS_MAX, *[REFUSES] * 3, Finding("x", "\N{SNOWMAN}" * TEXT_BYTES_MAX)]
    sent = findings_from_wire(findings_to_wire(many))
    assert len(sent) == FINDINGS_MAX
    assert len(refusing(sent)) == 4
    assert sent[-1].reason == "5 more findings"
    assert not sent[-1].refuses
    assert findings_from_wire(findings_to_wire([REFUSES] * 500))[-1].refuses


GOOD = told(REFUSES)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({}, MalformedError),
        ("findings", MalformedError),
        ([[]], MalformedError),
        ([{}], MalformedError),
        ([GOOD | {"id": ""}], MalformedError),
        ([GOOD | {"id": "a b"}], MalformedError),
        ([GOOD | {"id": "x\n"}], MalformedError),
        ([GOOD | {"id": "x" * 65}], MalformedError),
        ([GOOD | {"id": 1}], MalformedError),
        ([GOOD | {"severity": "dies"}], MalformedError),
        ([GOOD | {"severity": []}], MalformedError),
        ([GOOD | {"what": None}], MalformedError),
        ([GOOD | {"fix": b"x"}], MalformedError),
        ([{name: text for name, text in GOOD.items() if name != "why"}], MalformedError),
        ([GOOD | {"reference": "x" * (TEXT_BYTES_MAX + 1)}], LimitError),
        ([GOOD] * (FINDINGS_MAX + 1), LimitError),
    ],
)
def test_what_a_peer_may_not_say(value: Any, error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        findings_from_wire(value)


def test_what_is_not_known_is_passed_over() -> None:
    assert findings_from_wire([GOOD | {"colour": "red"}]) == [REFUSES]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner, max_size=6),
    max_leaves=20,
)


@given(JSON)
def test_whatever_comes_is_a_finding_or_the_protocols_own_error(value: Any) -> None:
    """P10."""
    with contextlib.suppress(ProtocolError):
        assert all(isinstance(finding, Finding) for finding in findings_from_wire(value))
