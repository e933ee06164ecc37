"""A refusal as a message: as much of the reasons as it may hold, and all findings for programs to read."""

from __future__ import annotations

from streamhop.findings import findings_to_wire
from streamhop_protocol.limits import CONTROL_TEXT_BYTES_MAX
from streamhop_protocol.messages import Refuse

from .errors import MoveError
from .offering import FINDINGS


def refuse(move: bytes, epoch: int, error: MoveError) -> Refuse:
    """The REFUSE that tells ``error``."""
    others = [[prose(other.reason), prose(other.fix)] for other in error.others]
    attributes = {FINDINGS: findings_to_wire(error.findings)} if error.findings else {}
    return Refuse(
        move=move,
        epoch=epoch,
        code=error.code,
        reason=prose(error.reason),
        fix=prose(error.fix),
        others=others or None,
        attributes=attributes,
    )


def prose(text: str) -> str:
    """As much of ``text`` as a message may hold."""
    return text.encode("utf-8", "replace")[:CONTROL_TEXT_BYTES_MAX].decode("utf-8", "ignore")
