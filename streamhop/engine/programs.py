"""Asks a program of this host something: briefly, without a shell, and with an end to it."""

from __future__ import annotations

import asyncio
import contextlib

OUTPUT_BYTES_MAX = 256 * 1024

NOT_THERE = 127
"""Exit code of a program that cannot be run, as a shell has it."""

TIMED_OUT = 124
"""Of one that has not ended in time, as timeout(1) has it."""


async def ask_program(*command: str, seconds: float, with_errors: bool = False) -> tuple[int, str]:
    """What a program prints, and its exit code.

    :param seconds: how long it may take; then it is killed.
    :param with_errors: whether what it prints to standard error counts, too.
    :returns: :data:`NOT_THERE` or :data:`TIMED_OUT` as the code where there is none of its own.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if with_errors else asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return NOT_THERE, ""
    assert process.stdout is not None
    output = b""
    try:
        async with asyncio.timeout(seconds):
            while piece := await process.stdout.read(65536):
                output = (output + piece)[:OUTPUT_BYTES_MAX]
            await process.wait()
    except TimeoutError:
        return TIMED_OUT, output.decode(errors="replace")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")
