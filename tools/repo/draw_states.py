"""Writes ``protocol/SPEC.states.md``: state diagrams, drawn from the transition tables of the code.

``draw_states.py`` writes the file, ``draw_states.py --check`` says whether it is what would be written. What makes a
transition happen is said here, for exactly those that the tables have.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from streamhop.handover.states import ENDED, RESTING, SOURCE_NEXT, TARGET_NEXT, Role, State
from streamhop_protocol.connection import NEXT_AFTER_RECEIVING, NEXT_AFTER_SENDING, Phase

TARGET_FILE = Path(__file__).parents[2] / "protocol" / "SPEC.states.md"
Edge = tuple[str, str, str]
"""From, to, and what makes it happen."""

OUTSIDE = "[*]"

SOURCE_WHY: dict[tuple[State | None, State], str] = {
    (None, State.PRECOPY): "OFFER is about to be sent",
    (State.PRECOPY, State.FREEZING): "READY has come, the rounds are over",
    (State.PRECOPY, State.ABORTED): "REFUSE or FAILED has come, or it is called off",
    (State.FREEZING, State.RELEASED): "PREPARED has come, RELEASE is about to be sent",
    (State.FREEZING, State.ABORTED): "FAILED has come, or it is called off",
    (State.RELEASED, State.DONE): "STARTED, or STATE open or done, has come",
    (State.RELEASED, State.ABORTED): "STATE refused has come, or an operator takes it back",
}
TARGET_WHY: dict[tuple[State | None, State], str] = {
    (None, State.RECEIVING): "ACCEPT is about to be sent",
    (State.RECEIVING, State.PREPARED): "PREPARED is about to be sent",
    (State.RECEIVING, State.ABORTED): "FAILED or ABORTED is about to be sent",
    (State.PREPARED, State.OWNED): "RELEASE has come, or an operator claims it",
    (State.PREPARED, State.ABORTED): "ABORTED is about to be sent",
    (State.PREPARED, State.REFUSED): "the image is gone, RELEASE cannot be followed",
    (State.OWNED, State.OPEN): "the gate opens, STARTED is about to be sent",
    (State.OWNED, State.REFUSED): "it did not start and never will",
    (State.OWNED, State.ABORTED): "ABORT of a higher epoch has come",
    (State.OPEN, State.DONE): "FINISH has come",
    (State.OPEN, State.ABORTED): "ABORT of a higher epoch has come, the container is removed",
}

HEAD = """# States
Drawn by `tools/repo/draw_states.py` from the tables of the code. The words MUST, MUST NOT, SHOULD and MAY are those of
RFC 2119. The diagrams are in the language of Mermaid: a line is a state, the one that may follow, and what makes it
follow.

## A connection

The phases of the side that receives, see [SPEC.md](SPEC.md#phases). In each of them an error of the peer's, and in
`control` BYE and ERROR, lead to `closed`.

"""

MOVE = """## A move at its source

A side MUST write a state durably before it acts on it, and MUST answer QUERY, and decide what is left to do after a
restart, from what was written. `released` is the point of commitment: from there on the source never lets its copy run
by itself.

"""

TARGET = """## A move at its target

The target MUST NOT start the container before `owned`, and no timer leads there. `refused` promises that it never will
in this epoch.

"""


def _node(state: Phase | State | None) -> str:
    return OUTSIDE if state is None else state.value.replace(" ", "_")


def _diagram(edges: Iterable[Edge], ends: Iterable[str]) -> str:
    lines = [f"    {start} --> {to}: {why}" for start, to, why in edges]
    lines += [f"    {end} --> {OUTSIDE}" for end in ends]
    return "\n".join(("```mermaid", "stateDiagram-v2", *lines, "```", ""))


def connection_edges() -> list[Edge]:
    """Phases, by what arrives and what is answered."""
    begins = [(OUTSIDE, _node(Phase.AWAIT_FIRST), "accepted"), (OUTSIDE, _node(Phase.AWAIT_WELCOME), "HELLO is sent")]
    begins.append((OUTSIDE, _node(Phase.AWAIT_JOINED), "JOIN is sent"))
    received = [(_node(at), _node(to), f"{kind.name} comes") for (at, kind), to in NEXT_AFTER_RECEIVING.items()]
    sent = [(_node(at), _node(to), f"{kind.name} is sent") for (at, kind), to in NEXT_AFTER_SENDING.items()]
    over = [(_node(phase), _node(Phase.CLOSED), "over") for phase in (Phase.CONTROL, Phase.PAYLOAD)]
    return [*begins, *received, *sent, *over]


def move_edges(
    table: Mapping[State | None, frozenset[State]], why: Mapping[tuple[State | None, State], str]
) -> list[Edge]:
    """States of one side of a move.

    :raises ValueError: what is said about transitions is not about those of the table.
    """
    there = {(start, to) for start, following in table.items() for to in following}
    if there != why.keys():
        raise ValueError(f"said about other transitions than there are: {there ^ why.keys()}")
    return [(_node(start), _node(to), said) for (start, to), said in why.items()]


def _resting(role: Role, table: Mapping[State | None, frozenset[State]]) -> str:
    ended = " or ".join(f"`{state.value}`" for state in State if state in ENDED and state in table)
    waits = sorted(state.value for state in RESTING[role] - ENDED)
    return f"Ended: {ended}." + "".join(f" In `{name}` nothing is left to do but to hear FINISH." for name in waits)


def drawn() -> str:
    """The whole file."""
    parts = [HEAD, _diagram(connection_edges(), [_node(Phase.CLOSED)]), "\n", MOVE]
    for role, table, why in ((Role.SOURCE, SOURCE_NEXT, SOURCE_WHY), (Role.TARGET, TARGET_NEXT, TARGET_WHY)):
        ends = [state.value for state in State if state in ENDED and state in table]
        parts += ["\n" + TARGET if role is Role.TARGET else "", _diagram(move_edges(table, why), ends)]
        parts += ["\n", _resting(role, table), "\n"]
    return "".join(parts)


def main() -> int:
    """Write or check."""
    if "--check" in sys.argv[1:]:
        stale = TARGET_FILE.read_text(encoding="utf-8") != drawn()
        sys.stderr.write(f"{TARGET_FILE.name} is not what draw_states.py writes\n" if stale else "")
        return int(stale)
    TARGET_FILE.write_text(drawn(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
