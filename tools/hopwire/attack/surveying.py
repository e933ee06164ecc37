"""Looks through a recording before anything of it is played: what there is, and what is lacking. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hopwire.errors import WireError
from hopwire.events import FrameSeen, Seen
from hopwire.filtering import Filter
from hopwire.roster import Roster

_LEFT_TO_SPEAKER = frozenset({"PING", "PONG"})
"""Answered as they come; recorded ones would mean nothing."""


def frames_of(events: Iterable[Seen], session: int) -> Iterator[tuple[FrameSeen, Roster]]:
    """The frames of one session that are played or waited for, in order."""
    roster = Roster()
    for seen in events:
        if isinstance(seen, FrameSeen):
            roster.take(seen)
            if roster.session(seen.connection) == session and seen.type_name not in _LEFT_TO_SPEAKER:
                yield seen, roster


@dataclass(frozen=True, slots=True)
class Survey:
    """What a session holds.

    :param frames: of the dialer.
    :param chosen: which of these has the fault done to it, counted from 0; None if there is no fault.
    :param shown: that frame in words.
    """

    frames: int
    chosen: int | None = None
    shown: str = ""


def survey(events: Iterable[Seen], session: int, wanted: Filter | None, nth: int) -> Survey:
    """Check that a session can be played.

    :param wanted: chooses the frame to do the fault to; None for no fault.
    :param nth: which of those it chooses, counted from 1.
    :raises WireError: there is no such session or frame, or what is to be sent was not recorded.
    """
    frames, passed, chosen, shown = 0, 0, None, ""
    for seen, roster in frames_of(events, session):
        if not seen.from_dialer:
            continue
        _check(seen)
        if wanted is not None and chosen is None and wanted.passes(seen, roster):
            passed += 1
            if passed == nth:
                stream = f" of stream {seen.prefix.stream}" if seen.prefix.stream else ""
                chosen, shown = frames, f"frame {frames}, {seen.type_name}{stream} at {seen.at_ns / 1e9:.6f} s"
        frames += 1
    if not frames:
        raise WireError(f"there is no session {session} in the recording")
    if wanted is not None and chosen is None:
        raise WireError(f"the dialer has sent {passed} frames that the filter chooses, not {nth}: {wanted.source}")
    return Survey(frames, chosen, shown)


def _check(seen: FrameSeen) -> None:
    hidden = seen.redacted and seen.type_name not in ("JOIN", "WELCOME")
    if hidden or (seen.payload is None and seen.prefix.payload_bytes):
        raise WireError("the recording lacks what is to be sent: record it with `hopwire tap --payload`")
    if seen.received is None and seen.header is None:
        raise WireError("the recording lacks headers: a daemon's trace cannot be played")
