"""A sample of what ``make lab-endurance`` does for a day's worth of moves."""

from __future__ import annotations

import pytest

from endurance.back_and_forth import endure

from .conftest import Edges

pytestmark = [pytest.mark.lab, pytest.mark.root]

MOVES = 20


def test_nothing_grows_while_a_container_moves_back_and_forth(classic_edges: Edges) -> None:
    """P16: memory, descriptors, threads, mounts, namespaces, rules, files, objects of Docker: later as earlier."""
    result = endure(classic_edges.a, classic_edges.b, classic_edges.client, MOVES)
    assert result.grown == []
    assert result.client["lost"] == 0
    assert len(result.client["answered_by"]) > MOVES
