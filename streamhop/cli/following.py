"""Watches a move until it ends, or until the user has seen enough; and what signals mean meanwhile."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any
from urllib.parse import quote

from rich.console import Console

from . import exit_codes
from .client import ControlClient, ControlError, DaemonGoneError
from .render import BarProgress, PlainProgress, Progressive

ASK_AGAIN_S = 0.2
"""How often a daemon that is gone is looked for."""

Handler = Callable[[int, FrameType | None], None]


def follow(
    client: ControlClient, move: str, *, cancels: bool, until: Callable[[dict[str, Any]], bool] | None = None
) -> dict[str, Any] | None:
    """Show a move until it ends.

    SIGTERM ends the command, and never the move.

    :param cancels: whether the first interrupt cancels the move; otherwise, as the second one does, it leaves.
    :param until: true of an event after which there is nothing to watch any more.
    :returns: how it ended; None if ``until`` was met before.
    :raises ControlError: the daemon went away, or knows no such move.
    :raises KeyboardInterrupt: the user left.
    :raises SystemExit: SIGTERM.
    """
    console = Console(stderr=True)
    progress: Progressive = BarProgress(console) if console.is_terminal else PlainProgress(console)

    def leave(_number: int, _frame: FrameType | None) -> None:
        progress.note(f"left; the daemon goes on with it: streamhop attach {move[:8]}, streamhop cancel {move[:8]}")
        raise KeyboardInterrupt

    def cancel(_number: int, _frame: FrameType | None) -> None:
        # Not by an exception, which Python drops where it cannot be raised, such as in a finalizer.
        signal.signal(signal.SIGINT, leave)
        progress.note("cancelling" if client.cancel_move(move) else "too late to cancel: it goes through")

    try:
        with _handling(signal.SIGINT, cancel if cancels else leave), _terminable(move, progress.note):
            progress.note(f"move {move[:8]}")
            for event in client.events(move):
                progress.event(event)
                if event["event"] == "finished":
                    result: dict[str, Any] = event["result"]
                    return result
                if until is not None and until(event):
                    return None
    finally:
        progress.close()
    raise DaemonGoneError(
        "the daemon ended before the move did",
        f"when it runs again it brings the move to its end, and `streamhop wait {move[:8]}` says how; until then the "
        "container may be frozen",
    )


def find_move(client: ControlClient, move: str, patience_s: float) -> str:
    """The ID that begins with ``move``.

    :param patience_s: how long to look for a daemon that is gone.
    :raises ControlError: the daemon does not come back, or knows no such move.
    """
    return str(_patiently(lambda: client.get(f"/v1/moves/{quote(move, safe='')}"), patience_s)["id"])


def wait_for_end(client: ControlClient, move: str, patience_s: float) -> dict[str, Any]:
    """How a move ended; waits until it has, also while the daemon is restarted.

    :param move: its ID.
    :param patience_s: how long to look for a daemon that is gone.
    :returns: the move as ``GET /v1/moves/ID`` has it.
    :raises ControlError: the daemon does not come back, or knows no such move.
    :raises SystemExit: SIGTERM.
    """
    with _terminable(move, lambda text: print(text.strip(), file=sys.stderr)):
        while True:
            _patiently(lambda: _see_end(client, move), patience_s)
            row: dict[str, Any] = _patiently(lambda: client.get(f"/v1/moves/{move}"), patience_s)
            if not row["running"]:
                return row


def _see_end(client: ControlClient, move: str) -> None:
    for event in client.events(move):
        if event["event"] == "finished":
            return
    raise DaemonGoneError("the daemon ended before the move did")


def _patiently(question: Callable[[], Any], patience_s: float) -> Any:
    """The answer, of this daemon or of the one that comes after it."""
    gone_since: float | None = None
    while True:
        asked = time.monotonic()
        try:
            return question()
        except DaemonGoneError as error:
            if time.monotonic() - asked > ASK_AGAIN_S:
                gone_since = None  # it was there until now
            if gone_since is None:
                gone_since = time.monotonic()
            elif time.monotonic() - gone_since > patience_s:
                raise ControlError(
                    f"no daemon has answered for {patience_s:.0f} s: {error.reason}",
                    "start it again: it brings the move to its end, and this command says how",
                ) from error
        time.sleep(ASK_AGAIN_S)


@contextmanager
def _terminable(move: str, note: Callable[[str], None]) -> Iterator[None]:
    def terminate(_number: int, _frame: FrameType | None) -> None:
        note(f"terminated; the daemon goes on with the move: streamhop attach {move[:8]}")
        sys.exit(exit_codes.TERMINATED)

    with _handling(signal.SIGTERM, terminate):
        yield


@contextmanager
def _handling(number: signal.Signals, handler: Handler) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
