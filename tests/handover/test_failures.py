"""Every expected failure becomes one error with a code, an exit code, and where the container runs."""

from __future__ import annotations

import errno

import pytest

from streamhop.engine.docker import EngineError
from streamhop.findings import Finding
from streamhop.handover.errors import BY_CODE, ContentError, MoveError, RefusedError, UnreachableError, from_peer
from streamhop.handover.failures import as_move_error, first_failure
from streamhop.net import SessionLost
from streamhop_protocol.errors import IntegrityError, LimitError
from streamhop_protocol.limits import OTHER_REASONS_MAX


def test_the_telling_failure_of_a_group_is_found() -> None:
    lost, real = SessionLost("closed"), IntegrityError("digest")
    group = BaseExceptionGroup("g", [lost, BaseExceptionGroup("h", [real])])
    assert first_failure(group) is real
    assert first_failure(BaseExceptionGroup("g", [lost])) is lost
    assert first_failure(real) is real


@pytest.mark.parametrize(
    ("failure", "kind", "exit_code"),
    [
        (SessionLost("closed"), UnreachableError, 10),
        (IntegrityError("digest"), ContentError, 15),
        (LimitError("too much"), RefusedError, 13),
        (OSError(errno.ENOSPC, "No space left on device", "/spool/x"), MoveError, 1),
        (EngineError("Docker says no"), MoveError, 1),
        (MoveError("as it is", "do this"), MoveError, 1),
    ],
)
def test_what_the_user_is_told(failure: Exception, kind: type[MoveError], exit_code: int) -> None:
    error = as_move_error(failure)
    assert type(error) is kind
    assert error.exit_code == exit_code
    assert error.reason
    assert error.as_json()["runs_at"] == "source"


def test_codes_are_distinct_and_go_over_the_wire_and_back() -> None:
    assert len({cls.exit_code for cls in BY_CODE.values()}) == len(BY_CODE)
    for code, cls in BY_CODE.items():
        assert type(from_peer(code, "r", "f")) is cls


def test_no_code_of_a_peers_says_where_the_container_runs() -> None:
    for code in ("in_doubt", "cancelled", "still_frozen", "unreachable", "nonsense"):
        error = from_peer(code, "so it says", "")
        assert (error.exit_code, error.runs_at) == (1, "source")
    assert from_peer("refused", "", "").exit_code == 13


def test_of_very_many_reasons_the_first_are_told_and_how_many_there_are() -> None:
    for number, other_count in ((1, 0), (2, 1), (OTHER_REASONS_MAX + 1, OTHER_REASONS_MAX), (100, OTHER_REASONS_MAX)):
        refusals = [Finding("target.port", f"reason {each}", f"fix {each}") for each in range(number)]
        error = RefusedError.of_several(refusals)
        assert (error.reason, error.fix, len(error.others)) == ("reason 0", "fix 0", other_count)
    assert error.others[-1].reason == f"{100 - OTHER_REASONS_MAX} more reasons"
    assert [finding.reason for finding in error.findings] == ["reason 0", *(other.reason for other in error.others)]
