"""What a host remembers of its moves: the journal, what users were told, and what runs, put together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .journal import Record
from .operation_log import KeptOperation
from .operations import Operation
from .outcomes import outcome_of_arrival, outcome_of_departure
from .states import STAGED, Role


@dataclass(frozen=True, slots=True)
class Remembered:
    """One move from here or to here.

    :param container: as the user called it, or its name.
    :param peer: as the user called it, or as the journal refers to it.
    :param running: an operation of this daemon is at it.
    :param record: the journal's newest record; None if nothing was promised.
    :param told: what the user was told; None if nothing was.
    :param began_at: in seconds since the epoch; None if a daemon of an earlier version noted it.
    :param ended_at: as before; also None if it has not.
    """

    move: bytes
    role: Role
    container: str
    peer: str
    running: bool
    record: Record | None
    told: Mapping[str, Any] | None
    began_at: float | None = None
    ended_at: float | None = None

    def result(self, here: str, peer: str) -> dict[str, Any] | None:
        """How it ended, with the move's ID; None if it has not.

        :param here: what this host is called.
        :param peer: what the other host is called.
        """
        if self.running:
            return None
        if self.role is Role.SOURCE:
            found: dict[str, Any] | None = outcome_of_departure(self.record, self.told, here, peer)
        else:
            assert self.record is not None
            found = outcome_of_arrival(self.record, peer, here)
        return None if found is None else {"id": self.move.hex(), **found}


def remembered(
    records: Sequence[Record], kept: Sequence[KeptOperation], operations: Iterable[Operation]
) -> list[Remembered]:
    """Every move from here and to here, oldest first; those that nobody knows the time of come before all others.

    :param records: all of the journal.
    :param kept: all that users asked for.
    :param operations: those of this daemon; each is in ``kept`` too.
    """
    departures = {record.move: record for record in records if record.role is Role.SOURCE}
    live = {operation.move: operation for operation in operations}
    asked = {operation.move for operation in kept}
    found = [_from_record(record) for move, record in departures.items() if move not in asked]
    for operation in kept:
        alive = live.get(operation.move)
        running = alive is not None and alive.result is None
        told = operation.result if alive is None else alive.result
        record = departures.get(operation.move)
        # What was in doubt when the user was told may have been settled since.
        ends = [operation.ended_at, None if record is None else record.ended_at]
        found.append(
            Remembered(
                operation.move,
                Role.SOURCE,
                operation.container,
                operation.peer,
                running,
                record,
                told,
                operation.began_at,
                None if running else max((end for end in ends if end is not None), default=None),
            )
        )
    found += [
        _from_record(record) for record in records if record.role is Role.TARGET and not record.details.get(STAGED)
    ]
    return sorted(found, key=lambda known: known.began_at or 0.0)


def _from_record(record: Record) -> Remembered:
    name, peer = record.details.get("name"), record.details.get("peer")
    return Remembered(
        record.move,
        record.role,
        str(name),
        str(peer),
        running=False,
        record=record,
        told=None,
        began_at=record.began_at,
        ended_at=record.ended_at,
    )
