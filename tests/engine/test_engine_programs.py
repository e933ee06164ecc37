"""Programs are asked with a bound on all that they may do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from streamhop.engine.programs import NOT_THERE, OUTPUT_BYTES_MAX, TIMED_OUT, ask_program


async def test_what_it_prints_and_how_it_ends() -> None:
    assert await ask_program("sh", "-c", "echo out; echo err >&2; exit 3", seconds=10) == (3, "out\n")
    assert await ask_program("sh", "-c", "echo out; echo err >&2", seconds=10, with_errors=True) == (0, "out\nerr\n")


async def test_one_that_is_not_there(tmp_path: Path) -> None:
    assert await ask_program(str(tmp_path / "none"), seconds=10) == (NOT_THERE, "")


async def test_one_that_hangs_is_killed_and_what_it_has_said_is_told() -> None:
    began = time.monotonic()
    code, output = await ask_program("sh", "-c", "echo first; exec sleep 60", seconds=0.3)
    assert (code, output) == (TIMED_OUT, "first\n")
    assert time.monotonic() - began < 10


async def test_one_that_prints_for_ever_fills_no_memory() -> None:
    code, output = await ask_program("head", "-c", str(OUTPUT_BYTES_MAX * 3), "/dev/zero", seconds=20)
    assert (code, len(output)) == (0, OUTPUT_BYTES_MAX)


async def test_a_cancel_leaves_no_process(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    asking = asyncio.create_task(ask_program("sh", "-c", f"echo $$ > {mark}; exec sleep 60", seconds=60))
    async with asyncio.timeout(10):
        while not (mark.exists() and mark.read_text().strip()):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    assert not Path(f"/proc/{mark.read_text().strip()}").exists()
