"""Damaged recordings: no crash, no hang, nothing that steers a terminal. ``make fuzz-wire`` reads 100,000."""

from __future__ import annotations

import mutants

from hopwire.errors import FlowError

COUNT = 2500


def test_mutants_of_recordings() -> None:
    tally = mutants.run(COUNT, seed=1)
    assert tally.bad == []
    assert tally.whole + tally.refused == COUNT
    # Both happen, or this shows nothing.
    assert tally.whole > COUNT // 50
    assert tally.refused > COUNT // 4
    assert tally.events > COUNT


def test_the_bases_are_recordings_and_the_check_can_fail() -> None:
    for reader, bases in ((mutants.read_flow, mutants.flow_bases()[:2]), (mutants.read_trace, mutants.trace_bases())):
        for base in bases:
            assert list(reader(base))
    assert mutants.STEERING.search("a\x1b[2J")
    try:
        list(mutants.read_flow(mutants.flow_bases()[2]))
    except FlowError:
        return
    raise AssertionError("the third base is one that was cut off")
