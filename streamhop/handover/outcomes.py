"""How a move ended, told from the journal. Pure.

The journal's record says where the container runs; what the user was told at the time adds the reason and the figures,
as far as the record still bears it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import InDoubtError, MoveError, StillFrozenError
from .journal import Record
from .report import report_without_figures
from .states import State

ARRIVING = frozenset({State.RECEIVING, State.PREPARED, State.OWNED})
"""States of a move to this host that has not ended."""

WHY = "why"
"""A detail of a target's record: the error with which the move failed here, as it is shown."""

_DAEMON_ENDED = "the daemon ended while it was being moved"


def outcome_of_departure(
    record: Record | None, told: Mapping[str, Any] | None, source: str, peer: str
) -> dict[str, Any]:
    """How a move away from this host ended.

    :param record: the newest record in the role of the source; None if nothing was promised.
    :param told: what the user was told; None if the daemon ended before.
    :param source: what this host is called.
    :param peer: what the target is called.
    """
    if record is None or record.state is State.PRECOPY:
        return dict(told) if told is not None else MoveError(_DAEMON_ENDED, "try again").as_json()
    if record.state is State.DONE or record.details.get("claimed_there"):
        if told is not None and told["outcome"] == "moved":
            return dict(told)
        there = str(record.details.get("new_name") or record.details.get("name"))
        return report_without_figures((str(record.details.get("name")), there), source, peer)
    if record.state is State.RELEASED:
        return _in_doubt(told, record.move)
    if record.state is State.FREEZING or record.details.get("owes_thaw"):
        if told is not None and told["runs_at"] == StillFrozenError.runs_at:
            return dict(told)
        return StillFrozenError(_DAEMON_ENDED).as_json()
    return _aborted(record, told)


def _in_doubt(told: Mapping[str, Any] | None, move: bytes) -> dict[str, Any]:
    if told is not None and told["outcome"] != "failed":
        # Also "moved": it runs there, and what is left to be done here makes no difference to that.
        return dict(told)
    return InDoubtError(f"GO was sent and the peer has not confirmed it: {_DAEMON_ENDED}", move).as_json()


def _aborted(record: Record, told: Mapping[str, Any] | None) -> dict[str, Any]:
    if record.details.get("reclaimed"):
        return MoveError("an operator reclaimed it here, because the target was lost").as_json()
    if told is None:
        return MoveError(_DAEMON_ENDED, "try again").as_json()
    if told["outcome"] != "failed":
        return MoveError("the target could not start it after GO", "look at the target's log").as_json()
    if told["runs_at"] == StillFrozenError.runs_at:
        return MoveError(f"{told['reason']}; it has been thawed since").as_json()
    return dict(told)


def outcome_of_arrival(record: Record, source: str, target: str) -> dict[str, Any] | None:
    """How a move to this host ended, None if it has not.

    :param record: the newest record in the role of the target.
    :param source: what the other host is called.
    :param target: what this host is called.
    """
    if record.state in ARRIVING:
        return None
    if record.state in (State.OPEN, State.DONE):
        name = str(record.details.get("name"))
        return report_without_figures((name, name), source, target)
    if "owes_removal" in record.details:
        return MoveError("an operator reclaimed it at the source, while this host was away").as_json()
    why = record.details.get(WHY)
    if isinstance(why, dict):
        return {**MoveError("").as_json(), **why}
    return MoveError("it did not come to this host", "the source and this daemon's log know why").as_json()
