"""What a daemon did, in words and as JSON. Pure; whatever it said is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from hopwire.dumping.as_json import jsonable
from hopwire.escaping import printable, shown_value

_ENDINGS = ("ERROR", "REFUSE", "FAILED", "ABORTED")
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Heard:
    """Something that the daemon did.

    :param what: type of a frame; or ``closed``, ``lost``, ``broke the protocol``.
    """

    at_s: float
    connection: str
    what: str
    fields: dict[str, Any] = field(default_factory=dict)
    stream: int = 0


@dataclass(slots=True)
class Outcome:
    """A session that was played.

    :param did: what was done to which frame; empty if nothing was.
    :param gave_up: what was waited for in vain; empty if everything was sent.
    """

    sent_frames: int = 0
    sent_bytes: int = 0
    seconds: float = 0.0
    did: str = ""
    gave_up: str = ""
    heard: list[Heard] = field(default_factory=list)
    heard_left_out: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """How the daemon took it, in a line."""
        for heard in self.heard:
            if heard.what in _ENDINGS:
                code = shown_value(heard.fields.get("code", ""))
                return f"it answered {heard.what} {code} after {heard.at_s:.3f} s"
        for heard in self.heard:
            if heard.what == "broke the protocol":
                return f"it broke the protocol itself after {heard.at_s:.3f} s"
        if self.gave_up:
            return f"it did not do what it did when this was recorded: {self.gave_up}"
        closed = [heard.at_s for heard in self.heard if heard.what in ("closed", "lost")]
        return f"it took everything, and closed after {min(closed):.3f} s" if closed else "it took everything"


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    """For people."""
    yield f"sent {outcome.sent_frames} frames, {outcome.sent_bytes} bytes in {outcome.seconds:.3f} s"
    if outcome.did:
        yield f"fault: {outcome.did}"
    yield "the daemon:"
    for heard in outcome.heard[:_SHOWN]:
        stream = f" stream {heard.stream}" if heard.stream else ""
        told = " ".join(
            f"{printable(name)}={shown_value(value, 120)}"
            for name, value in heard.fields.items()
            if name != "token" and value != {}
        )
        yield f"  {heard.at_s:10.3f} {printable(heard.connection):<8} {heard.what}{stream} {told}".rstrip()
    left = len(outcome.heard) - _SHOWN + outcome.heard_left_out
    if left > 0:
        yield f"  and {left} more"
    yield f"verdict: {outcome.verdict}"


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """For programs."""
    found = asdict(outcome)
    for heard in found["heard"]:
        heard["fields"].pop("token", None)
    return {**jsonable(found), "verdict": outcome.verdict}
