"""What CRIU logs while it restores a peer's image: it quotes that image."""

from __future__ import annotations

from collections.abc import Iterator

from fuzz.target import Target
from streamhop.engine.criu_log import REASON_CHARACTERS_MAX, explain


def run_criu_log(data: bytes) -> None:
    """A log."""
    reason, fix = explain(data.decode("utf-8", "replace"))
    assert len(reason) <= REASON_CHARACTERS_MAX
    assert fix


def _seeds() -> Iterator[bytes]:
    yield b"(00.000123) Error (criu/files.c:10): Can't open file /x on restore: No such file\n(00.1) 1: Warn x\n"
    yield b"(00.000123)      1: Error (criu/mount.c:99): mnt: Can't mount at ./dev: Permission denied\n"


TARGETS = {"criu_log": Target(run_criu_log, _seeds, ())}
