"""What a preflight warns of is remarked on; what it refuses fits into a message."""

from __future__ import annotations

from streamhop.findings import Finding, Severity, findings_from_wire, found
from streamhop.handover.errors import MoveError, RefusedError
from streamhop.handover.refusing import refuse
from streamhop.handover.report import tell_warnings
from streamhop.telemetry.events import EventLog
from streamhop_protocol.messages import decode_message, encode_message

MOVE = b"m" * 16


def test_very_many_and_very_long_findings_fit_into_a_message() -> None:
    snow = "\N{SNOWMAN}" * 5000
    said = refuse(MOVE, 1, RefusedError.of_several([Finding("a.b", snow, snow, snow, snow)] * 500))
    assert decode_message(*encode_message(said)) == said
    assert all(finding.refuses for finding in findings_from_wire(said.attributes["findings"]))


def test_an_error_that_no_check_has_found_has_no_findings() -> None:
    assert refuse(MOVE, 1, MoveError("no space left")).attributes == {}


async def test_warnings_are_remarked_on_once_each_kind() -> None:
    events = EventLog()
    older = found("kernel.older", "older")
    other, refuses = Finding("x.y", "so", severity=Severity.WARNS), found("target.port", "port 80 is taken")
    tell_warnings(events, "target", [older, older, other, refuses])
    tell_warnings(events, "source", [refuses])
    events.close()
    told = [event async for event in events.follow()]
    assert [event["text"] for event in told] == [
        "the preflight warns at the target: kernel.older, x.y; `streamhop check` tells more"
    ]
