"""The states of a move on each side, and which may follow which. Pure.

States that are written to the journal before they are acted upon are promises:

* ``FREEZING`` (source): the container may be found frozen; without a later ``RELEASED`` it is thawed.
* ``PREPARED`` (target): a complete, verified image is restored behind the gate. It is never started without GO.
* ``RELEASED`` (source): the point of commitment. From here on the source never thaws by itself.
* ``OWNED`` (target): GO was received. ``OPEN``: the container runs here.
* ``REFUSED`` (target): the image is gone; GO of this epoch will never be followed. The source may thaw.
* ``ABORTED``, ``DONE``: ended.

What is still to be done after the last state was entered is a *debt*, written with it and cleared once it is paid.
"""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """Which side of a move this host is."""

    SOURCE = "source"
    TARGET = "target"


class State(Enum):
    """Where a move stands on one side."""

    PRECOPY = "precopy"
    FREEZING = "freezing"
    RELEASED = "released"
    RECEIVING = "receiving"
    PREPARED = "prepared"
    OWNED = "owned"
    OPEN = "open"
    REFUSED = "refused"
    ABORTED = "aborted"
    DONE = "done"


FIRST = frozenset({State.PRECOPY, State.RECEIVING})
"""With one of these an attempt to move a container begins; each has an epoch of its own."""

ENDED = frozenset({State.ABORTED, State.DONE, State.REFUSED})

RESTING = {
    Role.SOURCE: frozenset({State.ABORTED, State.DONE}),
    # After OPEN nothing is missing here but the source's FINISH.
    Role.TARGET: frozenset({State.OPEN, State.ABORTED, State.DONE, State.REFUSED}),
}
"""States in which a side has nothing to do or to ask, debts apart."""

OWES_CPU = "owes_cpu"
"""A debt, see :data:`DEBTS`: what :mod:`.cpu_debts` wrote down before the container's CPU quota was lowered."""

OWES_VOLUMES = "owes_volumes"
"""A debt, see :data:`DEBTS`: volumes that the container had, and when each was made, in Docker's words."""

OWES_HOOKS = "owes_hooks"
"""A debt, see :data:`DEBTS`: hooks that run once the move has ended, see :mod:`.hooks`."""

DEBTS = (
    OWES_CPU,
    OWES_VOLUMES,
    OWES_HOOKS,
    "owes_thaw",
    "owes_abort",
    "owes_finish",
    "owes_settling_in",
    "owes_removal",
)
"""Details of a record that say what is still owed:

* ``owes_cpu`` (source, any state): the container's CPU quota may still be lowered.
* ``owes_hooks`` (either side): hooks of the operator's are to run when the move is DONE or ABORTED here, or OPEN.
* ``owes_thaw`` (source, ABORTED): the container may still be frozen, its gate closed, its restart policy ``no``.
* ``owes_abort`` (source, ABORTED): the target may not know, and may hold a restored image behind its gate.
* ``owes_volumes`` (source, DONE): the container's volumes are still here. They go once the target has said ``done``:
  until then what is in them may not be on its disk.
* ``owes_finish`` (source, DONE): the target may not know that the copy here is gone.
* ``owes_settling_in`` (target, OPEN): the container may lack its restart policy, and its spool may still be there.
* ``owes_removal`` (target, ABORTED by an operator): the container, its image and its spool may still be there.
"""

RUNS_THERE = "runs_there"
"""A detail of a source's RELEASED: the target has said that it runs there. The copy here is about to go, if it is not
gone already: nobody may take it back."""

KEEPS_CONNECTIONS = "keeps_connections"
"""A detail of a source's record: the container's addresses and open connections go with it. Its copy here must not say
a word to its clients, not even that it ends; and if it stays it has to tell its neighbours where it is."""

LOST = "lost"
"""A detail of a target's OWNED: the host went down around the start, and nobody can say whether the container ran for a
moment. An operator decides, at the source: see :meth:`.Moves.reclaim`. Until then there is nothing to do here."""

STAGED = "staged"
"""A detail of a target's record: nothing was to be started; what came is kept for a move that may follow."""

SYNCED = "synced"
"""A detail of a target's record, and an attribute of STATE: all files of the container are on this host's disk. In a
source's record: the target has said so as it said ``done``."""

SOURCE_NEXT: dict[State | None, frozenset[State]] = {
    None: frozenset({State.PRECOPY}),
    State.PRECOPY: frozenset({State.FREEZING, State.ABORTED}),
    State.FREEZING: frozenset({State.RELEASED, State.ABORTED}),
    # After RELEASED only the target's durable word ends it: OPEN there (DONE here) or REFUSED there (ABORTED here).
    State.RELEASED: frozenset({State.DONE, State.ABORTED}),
    State.ABORTED: frozenset(),
    State.DONE: frozenset(),
}

TARGET_NEXT: dict[State | None, frozenset[State]] = {
    None: frozenset({State.RECEIVING}),
    State.RECEIVING: frozenset({State.PREPARED, State.ABORTED}),
    State.PREPARED: frozenset({State.OWNED, State.ABORTED, State.REFUSED}),
    # ABORTED after GO: an operator has reclaimed it at the source, of a higher epoch, while this host was away.
    State.OWNED: frozenset({State.OPEN, State.REFUSED, State.ABORTED}),
    State.OPEN: frozenset({State.DONE, State.ABORTED}),
    State.REFUSED: frozenset(),
    State.ABORTED: frozenset(),
    State.DONE: frozenset(),
}


class ForbiddenTransitionError(Exception):
    """A bug, or a message out of turn, tried to take a move where the protocol does not go."""


class StateMachine:
    """Holds a move's state on one side and lets only the transitions of the table through."""

    def __init__(self, role: Role, state: State | None = None) -> None:
        self.role = role
        self.state = state
        self._next = SOURCE_NEXT if role is Role.SOURCE else TARGET_NEXT

    def check(self, to: State) -> None:
        """Raise if ``to`` may not follow the present state.

        :raises ForbiddenTransitionError:
        """
        if to not in self._next.get(self.state, frozenset()):
            now = self.state.value if self.state else "nothing"
            raise ForbiddenTransitionError(f"{self.role.value}: {to.value} may not follow {now}")

    def advance(self, to: State) -> None:
        """Enter ``to``. Call after the journal has it.

        :raises ForbiddenTransitionError:
        """
        self.check(to)
        self.state = to

    @property
    def committed(self) -> bool:
        """Whether this side may no longer end the move by itself."""
        return self.state in (State.RELEASED, State.OWNED, State.OPEN, State.DONE)
