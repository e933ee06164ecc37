"""How a move can end other than well. Each class fixes its code, its exit code and where the container runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from streamhop.findings import Finding, found, told
from streamhop.identity import HOW_TO_PAIR
from streamhop_protocol.limits import OTHER_REASONS_MAX


class MoveError(Exception):
    """A move ended without moving, or with a doubt.

    :param reason: what failed, for a person.
    :param fix: what to do next; empty if there is nothing but to try again.
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    runs_at: ClassVar[str] = "source"

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix
        self.others: Sequence[Finding] = ()
        """What else is in the way."""
        self.findings: Sequence[Finding] = ()
        """All that is in the way, the first and the others, where it was found by a check."""

    @classmethod
    def of_several(cls, findings: Sequence[Finding]) -> Self:
        """The error that tells all of ``findings``, of which there is at least one; of very many the first ones."""
        first, *others = findings
        error = cls(first.reason, first.fix)
        if len(others) > OTHER_REASONS_MAX:
            named = others[: OTHER_REASONS_MAX - 1]
            others = [*named, found("check.more", f"{len(others) - len(named)} more reasons")]
        error.others = others
        error.findings = (first, *others)
        return error

    def as_json(self) -> dict[str, Any]:
        """The error as the control API and ``--format json`` show it."""
        return {
            "outcome": "in_doubt" if isinstance(self, InDoubtError) else "failed",
            "code": self.code,
            "exit_code": self.exit_code,
            "runs_at": self.runs_at,
            "reason": self.reason,
            "fix": self.fix,
            "others": [{"reason": other.reason, "fix": other.fix} for other in self.others],
            "findings": [told(finding) for finding in self.findings],
        }


class UnreachableError(MoveError):
    """No session with the peer."""

    code: ClassVar[str] = "unreachable"
    exit_code: ClassVar[int] = 10


class UnpairedError(MoveError):
    """The peer is not one that this host trusts, or does not trust this host."""

    code: ClassVar[str] = "not_paired"
    exit_code: ClassVar[int] = 11

    def __init__(self, reason: str, fix: str = HOW_TO_PAIR) -> None:
        super().__init__(reason, fix)


class PreflightError(MoveError):
    """This container cannot be moved, or not to that peer; found before anything was touched."""

    code: ClassVar[str] = "preflight"
    exit_code: ClassVar[int] = 12


class NotRunningError(PreflightError):
    """There is no such container, or it does not run."""

    runs_at: ClassVar[str] = "unknown"


class RefusedError(MoveError):
    """The target's policy does not allow what the container asks for."""

    code: ClassVar[str] = "refused"
    exit_code: ClassVar[int] = 13


class NoConvergenceError(MoveError):
    """The predicted downtime never met the target the user set, or a freeze lasted too long for it."""

    code: ClassVar[str] = "no_convergence"
    exit_code: ClassVar[int] = 14


class ContentError(MoveError):
    """What arrived is not what was sent."""

    code: ClassVar[str] = "integrity"
    exit_code: ClassVar[int] = 15


class CancelledMoveError(MoveError):
    """The user ended the move before the point of commitment."""

    code: ClassVar[str] = "cancelled"
    exit_code: ClassVar[int] = 20


class StoppedError(MoveError):
    """The daemon was told to stop before the point of commitment: the move ended, and nobody had decided that."""

    code: ClassVar[str] = "daemon_stopped"

    def __init__(self, reason: str = "the daemon was stopped while it was being moved") -> None:
        super().__init__(reason, "start the daemon again, then try again")


class StillFrozenError(MoveError):
    """The move was aborted, and the container could not be given back: the daemon goes on trying.

    :param why: what ended the move.
    """

    code: ClassVar[str] = "still_frozen"
    runs_at: ClassVar[str] = "frozen"

    def __init__(self, reason: str, why: MoveError | None = None) -> None:
        super().__init__(reason, "the daemon goes on trying to thaw it; its log says what is in the way")
        self.why = why


class EndedError(MoveError):
    """The container ended at the source during the move."""

    code: ClassVar[str] = "ended"
    runs_at: ClassVar[str] = "ended"


class PausedError(MoveError):
    """Somebody paused the container at the source during the move; it is left so."""

    code: ClassVar[str] = "paused"
    runs_at: ClassVar[str] = "paused"


class InDoubtError(MoveError):
    """GO was sent and its fate is unknown: it does not run here, the frozen copy is kept, the daemon goes on asking.

    :param move: which move is in doubt; None if the user is told elsewhere.
    """

    code: ClassVar[str] = "in_doubt"
    exit_code: ClassVar[int] = 21
    runs_at: ClassVar[str] = "nowhere"

    def __init__(self, reason: str, move: bytes | None = None) -> None:
        named = "MOVE" if move is None else move.hex()[:8]
        super().__init__(
            reason,
            "do not start or unpause the copy here. It ends by itself once the link is back; if the target is lost for "
            f"good: `streamhop handover ls`, `streamhop handover reclaim {named}`",
        )


BY_CODE: dict[str, type[MoveError]] = {cls.code: cls for cls in (MoveError, PreflightError, RefusedError, ContentError)}
"""Closed map from the codes that FAILED and REFUSE may carry to the error they mean here.

Where the container runs is for this side to say: no code of a peer's claims it.
"""


def from_peer(code: str, reason: str, fix: str) -> MoveError:
    """The error a peer's FAILED or REFUSE stands for; unknown codes become :class:`MoveError`."""
    return BY_CODE.get(code, MoveError)(f"the peer says: {reason}", fix)
