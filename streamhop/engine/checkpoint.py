"""Dumps a paused container with runc and CRIU, and leaves it paused, as if nothing had happened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from pathlib import Path

from .criu_log import explain_file

CRIU_CONFIG = "network-lock skip\n"
"""The network gate is closed already and stays so; CRIU's own lock would only cost time (half of a small dump's)."""

CANCEL_S_MAX = 15.0
"""How long a dump that nobody wants any more may go on before it is killed."""

_OUTPUT_CHARACTERS_MAX = 500


class CheckpointFailed(Exception):  # noqa: N818 - the callers' name for it
    """The container was not dumped; it is paused as before.

    :param fix: what to do about it; may be empty.
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.fix = fix


async def checkpoint(container_id: str, runc_root: Path, image_dir: Path, work_dir: Path, *, timeout_s: float) -> None:
    """Dump a container that is paused and whose network gate is closed.

    Established TCP connections are dumped; whether they come back is decided at the restore. A caller that is
    cancelled waits for the dump to end: a CRIU killed in the middle may leave its own code in the processes.

    :param runc_root: the state directory of the container's runtime, see :func:`.docker.runc_root`.
    :param image_dir: gets the images; must exist and be empty.
    :param work_dir: gets CRIU's log; must exist.
    :raises CheckpointFailed:
    """
    with tempfile.TemporaryDirectory(prefix="criu-", dir=work_dir) as private:
        # runc passes its environment on to CRIU. Where the container's configuration or /etc/criu/runc.conf say
        # otherwise they win.
        config = Path(private) / "criu.conf"
        await asyncio.to_thread(config.write_text, CRIU_CONFIG, encoding="ascii")
        try:
            process, cancelled = await _start(
                checkpoint_command(container_id, runc_root, image_dir, work_dir),
                {**os.environ, "CRIU_CONFIG_FILE": str(config)},
            )
        except OSError as error:
            raise CheckpointFailed(f"runc cannot be run: {error.strerror}", "install runc, or mend PATH") from error
        output = await _finish(process, timeout_s, cancelled)
    if process.returncode:
        reason, fix = await asyncio.to_thread(explain_file, work_dir / "dump.log")
        told = output.decode(errors="replace").strip()[-_OUTPUT_CHARACTERS_MAX:]
        raise CheckpointFailed(f"the container could not be dumped: {reason or told}", fix if reason else "")


def checkpoint_command(container_id: str, runc_root: Path, image_dir: Path, work_dir: Path) -> list[str]:
    """The command line of ``runc checkpoint``."""
    command = ["runc", "--root", str(runc_root), "checkpoint", "--leave-running", "--tcp-established", "--file-locks"]
    return [*command, "--image-path", str(image_dir), "--work-path", str(work_dir), container_id]


async def _start(
    command: list[str], environment: dict[str, str]
) -> tuple[asyncio.subprocess.Process, asyncio.CancelledError | None]:
    """Start the dump. A cancel meanwhile would lose sight of it, so it is handed on with it."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    )
    cancelled = None
    while not starting.done():
        try:
            await asyncio.wait({starting})
        except asyncio.CancelledError as error:
            cancelled = error
    return starting.result(), cancelled


async def _finish(
    process: asyncio.subprocess.Process, timeout_s: float, cancelled: asyncio.CancelledError | None
) -> bytes:
    """What it printed; see :func:`checkpoint` for what happens on a cancel."""
    finishing = asyncio.ensure_future(process.communicate())
    try:
        if cancelled is not None:
            raise cancelled
        await asyncio.wait({finishing}, timeout=timeout_s)
    except asyncio.CancelledError:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({finishing}, timeout=CANCEL_S_MAX)
        await _kill(process, finishing)
        raise
    if not finishing.done():
        await _kill(process, finishing)
        raise CheckpointFailed(f"the dump took more than {timeout_s:.0f} s", "is the host overloaded?")
    return finishing.result()[0]


async def _kill(process: asyncio.subprocess.Process, finishing: asyncio.Future[tuple[bytes, bytes]]) -> None:
    """Make sure that neither runc nor its CRIU goes on."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    while not finishing.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({finishing})
