"""From any expected failure to the one error a move ends with."""

from __future__ import annotations

import asyncio
import errno
import socket
import sqlite3

from streamhop.content.process_images import ImagesRefusedError
from streamhop.content.trees import TreeApplyError, TreeQuotaError, TreeRefusedError, UnsupportedTree
from streamhop.engine.checkpoint import CheckpointFailed
from streamhop.engine.docker import EngineError
from streamhop.engine.netgate import GateError
from streamhop.engine.restores import RestoreFailed
from streamhop.identity import HOW_TO_PAIR
from streamhop.net import SessionLost, UntrustedError
from streamhop.peering import NoAddressError, NotPairedError
from streamhop_protocol.errors import IntegrityError, LimitError, ProtocolError

from .errors import (
    CancelledMoveError,
    ContentError,
    MoveError,
    PreflightError,
    RefusedError,
    StoppedError,
    UnpairedError,
    UnreachableError,
)

EXPECTED = (
    MoveError,
    EngineError,
    CheckpointFailed,
    RestoreFailed,
    GateError,
    SessionLost,
    NotPairedError,
    NoAddressError,
    ProtocolError,
    ImagesRefusedError,
    TreeApplyError,
    UnsupportedTree,
    OSError,
    sqlite3.Error,
)
"""What can go wrong without being a bug of ours. Anything else is logged with its traceback and ends the move too."""


def first_failure(error: BaseException) -> BaseException:
    """The most telling failure inside (nested) exception groups.

    A session lost because the other task of a group failed says less than why that one failed.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [first_failure(inner) for inner in error.exceptions]
    return min(leaves, key=lambda leaf: isinstance(leaf, SessionLost))


def plain(failure: BaseException) -> str:
    """A failure in words: what the system says about an ``OSError``, without its number."""
    if isinstance(failure, OSError) and failure.strerror and not isinstance(failure, socket.gaierror):
        words = failure.strerror.partition(": ")[2] if failure.strerror.startswith("[Errno") else failure.strerror
        return f"{words}: {failure.filename}" if failure.filename else words or failure.strerror
    return str(failure) or type(failure).__name__


def _of_lost_session(lost: SessionLost) -> MoveError:
    blame = lost.__cause__
    if isinstance(blame, IntegrityError | LimitError):
        return as_move_error(blame)
    if isinstance(blame, ProtocolError):
        return MoveError(f"the session with the peer ended: {lost}", "report this, with both daemons' logs")
    return UnreachableError(f"the connection to the peer was lost: {lost}", "check the link, then try again")


def _of_unknown_peer(failure: NotPairedError | NoAddressError | UntrustedError) -> MoveError:
    if isinstance(failure, NoAddressError):
        return UnreachableError(str(failure), failure.fix)
    fix = failure.fix if isinstance(failure, NotPairedError) else HOW_TO_PAIR
    return UnpairedError(str(failure), fix)


def of_cancel(*, stopping: bool) -> MoveError:
    """What the user is told of a move whose task was cancelled: by them, or because the daemon is ``stopping``."""
    return StoppedError() if stopping else CancelledMoveError("it was cancelled")


def as_move_error(error: BaseException) -> MoveError:
    """What the user is told about ``error``."""
    failure = first_failure(error)
    match failure:
        case MoveError():
            return failure
        case NotPairedError() | NoAddressError() | UntrustedError():
            return _of_unknown_peer(failure)
        case SessionLost():
            return _of_lost_session(failure)
        case IntegrityError():
            return ContentError(f"what arrived is not what was sent: {failure}", "try again; report it if it repeats")
        case ImagesRefusedError():
            return RefusedError(str(failure), "what may be granted is in [policy] at the target")
        case CheckpointFailed() | RestoreFailed():
            return MoveError(str(failure), failure.fix)
        case LimitError() | TreeQuotaError() | TreeRefusedError():
            return RefusedError(str(failure), "raise the limit in the target's configuration if this is wanted")
        case UnsupportedTree():
            return PreflightError(str(failure))
        case OSError() if failure.errno == errno.ENOSPC:
            return MoveError(f"no space left on the device: {failure.filename or failure}", "make room there")
        case TreeApplyError() if "No space left" in str(failure):
            return MoveError(str(failure), "make room there")
        case asyncio.CancelledError():
            return StoppedError()
        case _:
            return MoveError(plain(failure))
