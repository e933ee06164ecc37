"""The judgement on a run: where it ended, whether the matrix allows that, and whether the user was told the truth."""

from __future__ import annotations

from typing import Any

import pytest

from faults.cells import End, Fault, Step
from faults.inventory import Inventory
from faults.reports import Report
from faults.verdicts import Observed, Said, judge

A, B = "a", "b"


def on(state: str | None, policy: str = "no") -> Inventory:
    return Inventory({"containers": (f"/counter {state} {policy}",)} if state else {})


def observed(
    reports: str, a: str | None, b: str | None, said: str = "", fault: Fault = Fault.LINK_BOTH, **more: Any
) -> Observed:
    """``reports`` is a word for each 0.1 s: host and life, or ``-``; the inventories are taken at the end."""
    words = reports.split()
    heard = [Report(i / 10, word[0], word[1:], i + 1) for i, word in enumerate(words) if word != "-"]
    policy = more.pop("policy", "no")
    known: dict[str, Any] = {
        "fault": fault,
        "step": Step.RELEASED,
        "source": A,
        "target": B,
        "policy": policy,
        "image": "web:1",
        "reports": heard,
        "first_life": "1",
        "said": Said(0, said, (len(words) - 1) / 10),
        "before": {A: on("running", policy), B: on(None)},
        "after": {A: on(a, policy), B: on(b, policy)},
        "ended_at": (len(words) - 1) / 10,
    }
    return Observed(**{**known, **more})


QUIET = "- - - - - - "
READY, END = Step.PREPARED, Step.DONE


@pytest.mark.parametrize(
    ("seen", "end"),
    [
        (observed("a1 a1", "running", None, "source"), End.SOURCE),
        (observed("a1 " + QUIET + "b1", None, "running", "target"), End.TARGET),
        (observed("a1 " + QUIET + "a2", "running", None, "source", Fault.SOURCE_HOST, step=READY), End.COLD_SOURCE),
        (observed("a1 b1 " + QUIET + "b2", None, "running", "target", Fault.TARGET_HOST, step=END), End.COLD_TARGET),
        (observed("a1 " + QUIET, "exited", None, "source", Fault.SOURCE_HOST, step=Step.PRECOPY), End.ENDED_SOURCE),
        (observed("a1 b1 " + QUIET, None, "exited", "target", Fault.TARGET_DOCKERD, step=Step.DONE), End.ENDED_TARGET),
        (
            observed(
                "a1 " + QUIET, "paused", None, "nowhere", Fault.TARGET_HOST,
                step=Step.OWNED, unsettled=["a: source released"], lost=True,
            ),
            End.FROZEN_SOURCE,
        ),
    ],
)  # fmt: skip
def test_ends_that_the_matrix_allows(seen: Observed, end: End) -> None:
    found, left, broken = judge(seen)
    assert (found, left, broken) == (end, [], [])


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (observed("a1 a1 a1", "running", "running", "source"), "two copies"),
        (observed("a1 a2 b1 a2", "running", "running", "target"), "later life"),
        (observed("a1 " + QUIET, None, None, "nowhere"), "it is gone"),
        (observed("a1 " + QUIET, "paused", None, "nowhere"), "it is frozen at source"),
        (observed("a1 " + QUIET + "a2", "running", None, "source"), "it is cold at source"),
        (observed("a1 a1", "running", None, "target"), "told that it moved"),
        (observed("a1 b1", None, "running", "source"), "told that it is at the source"),
        (observed("a1 a1", "running", None, "nowhere"), "nobody runs while a reported"),
        (observed("a1 a1", "running", None), "says nothing"),
        (observed("a1 a1", "running", None, "source", unsettled=["a: source released"]), "not settled"),
        (
            observed(
                "a1 " + QUIET, "paused", None, "nowhere", Fault.TARGET_HOST,
                step=Step.OWNED, unsettled=["a: source released"],
            ),
            "not settled",
        ),
        (
            observed(
                "a1 " + QUIET, "exited", None, "", Fault.SOURCE_HOST, step=Step.PREPARED, policy="always"
            ),
            "its restart policy is always",
        ),
    ],
)  # fmt: skip
def test_what_breaks_a_promise(seen: Observed, complaint: str) -> None:
    _, _, broken = judge(seen)
    assert any(complaint in text for text in broken), broken


def test_a_command_that_died_with_its_daemon_owes_no_word() -> None:
    assert judge(observed("a1 a1", "running", None, "", Fault.SOURCE_DAEMON, step=Step.FROZEN)) == (End.SOURCE, [], [])


def test_unless_stopped_is_dockers_own_to_forget() -> None:
    seen = observed("a1 " + QUIET, "exited", None, "source", Fault.SOURCE_DOCKERD, step=Step.PRECOPY)
    for policy, broken in (("unless-stopped", 0), ("always", 1)):
        again = observed(
            "a1 " + QUIET, "exited", None, "source", Fault.SOURCE_DOCKERD, step=Step.PRECOPY, policy=policy
        )
        assert len(judge(again)[2]) == broken
    assert judge(seen)[2] == []
