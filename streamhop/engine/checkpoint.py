"""Dumps a paused container with runc and CRIU, and leaves it paused, as if nothing had happened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from .criu_log import explain_output
from .criu_when_told import GO, PAGES_DESCRIPTOR, environment, listen
from .kept_logs import explain_and_keep

CRIU_CONFIG = f"network-lock skip\npage-server\nps-socket {PAGES_DESCRIPTOR}\n"
"""The network gate is closed already and stays so; CRIU's own lock would only cost time (half of a small dump's). Pages
go over a socket (:attr:`Checkpoint.pages`) instead of into files: a second copy of all memory costs time and room."""

TRACKING_IMAGES = "netns-[ce][tx]*-*.img"
"""What the namespace's connection tracking knew (``netns-ct``, ``netns-exp``): Docker has it follow connections on all
networks that people make. It stays here. The target's kernel learns it anew from the packets, and no target would hand
netlink messages of a peer's to its kernel."""

READY_S_MAX = 30.0
"""How long runc may take, with the container running, until there is nothing left for it to do but to dump."""

CANCEL_S_MAX = 15.0
"""How long a dump that nobody wants any more may go on before its pages are refused."""

GIVES_UP_S_MAX = 5.0
"""How long CRIU may take then to undo what it did to the processes, before it is killed."""

_OUTPUT_CHARACTERS_MAX = 500


class CheckpointFailed(Exception):  # noqa: N818 - the callers' name for it
    """The container was not dumped; it is paused as before.

    :param fix: what to do about it; may be empty.
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.fix = fix


@asynccontextmanager
async def checkpoint_in_waiting(
    container_id: str, runc_root: Path, image_dir: Path, work_dir: Path, launchers: Path, logs: Path | None = None
) -> AsyncIterator[Checkpoint]:
    """Everything of a dump that can be done before the container is frozen; returns when CRIU waits for the word.

    Established TCP connections are dumped; whether they come back is decided at the restore.

    :param runc_root: the state directory of the container's runtime, see :func:`.docker.runc_root`.
    :param image_dir: gets the images but for pages and their pagemaps; must exist and be empty.
    :param work_dir: gets CRIU's log; must exist.
    :param launchers: where :func:`.setup.install_stand_in` was called.
    :param logs: where CRIU's log is kept if the dump fails; None: nowhere.
    :raises CheckpointFailed: runc did not come so far.
    """
    with tempfile.TemporaryDirectory(prefix="criu-", dir=work_dir) as private, listen(private) as listener:
        # runc passes its environment on to CRIU. Where the container's configuration or /etc/criu/runc.conf say
        # otherwise they win.
        config = Path(private) / "criu.conf"
        config.touch(mode=0o600)
        await asyncio.to_thread(config.write_text, CRIU_CONFIG, encoding="ascii")
        try:
            process, cancelled = await _start(
                checkpoint_command(container_id, runc_root, image_dir, work_dir),
                {**environment(str(launchers), private), "CRIU_CONFIG_FILE": str(config)},
            )
        except OSError as error:
            raise CheckpointFailed(f"runc cannot be run: {error.strerror}", "install runc, or mend PATH") from error
        checkpoint = Checkpoint(process, listener, image_dir, work_dir, logs)
        try:
            if cancelled is not None:
                raise cancelled
            await checkpoint.waits()
            yield checkpoint
        finally:
            await checkpoint.close()


class Checkpoint:
    """A dump that waits to be let go: :meth:`run` it once, when the container is paused and its gate closed.

    Somebody has to take :attr:`pages` in another thread meanwhile.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        listener: socket.socket,
        image_dir: Path,
        work_dir: Path,
        logs: Path | None = None,
    ) -> None:
        self._process = process
        self._listener = listener
        self._listener.setblocking(False)
        self._work_dir = work_dir
        self._logs = logs
        self._image_dir = image_dir
        self._ending = asyncio.ensure_future(process.communicate())
        self._stand_in: socket.socket | None = None

    @property
    def pages(self) -> socket.socket:
        """Where CRIU sends its pages, by the protocol of its page server; blocking."""
        assert self._stand_in is not None
        return self._stand_in

    async def waits(self) -> None:
        """Return when CRIU waits for the word.

        :raises CheckpointFailed: runc ended instead, or takes too long.
        """
        connecting = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(self._listener))
        try:
            awaited: set[asyncio.Future[Any]] = {connecting, self._ending}
            await asyncio.wait(awaited, timeout=READY_S_MAX, return_when=asyncio.FIRST_COMPLETED)
            if connecting.done():
                self._stand_in = connecting.result()[0]
                self._stand_in.setblocking(True)
        finally:
            connecting.cancel()
        if self._stand_in is not None:
            return
        if self._ending.done():
            raise await self._failure(self._ending.result()[0])
        raise CheckpointFailed(f"runc was not ready to dump after {READY_S_MAX:.0f} s", "is the host overloaded?")

    async def run(self, timeout_s: float) -> None:
        """Dump the container, and leave it paused.

        A caller that is cancelled waits for the dump to end: a CRIU killed in the middle may leave its own code in the
        processes.

        :raises CheckpointFailed:
        """
        with contextlib.suppress(OSError):  # it has died, which its exit code tells
            self.pages.sendall(GO)
        output = await self._finish(timeout_s)
        if self._process.returncode:
            raise await self._failure(output)
        for path in self._image_dir.glob(TRACKING_IMAGES):
            path.unlink()

    async def close(self) -> None:
        """End a dump that was not let go. Safe to repeat."""
        if self._stand_in is not None:
            self._stand_in.close()
        await _kill(self._process, self._ending)

    async def _failure(self, output: bytes) -> CheckpointFailed:
        reason, fix = await asyncio.to_thread(explain_and_keep, self._work_dir / "dump.log", self._logs, "dump")
        if not reason:
            reason, fix = explain_output(output.decode(errors="replace").strip()[-_OUTPUT_CHARACTERS_MAX:])
        return CheckpointFailed(f"the container could not be dumped: {reason}", fix)

    async def _finish(self, timeout_s: float) -> bytes:
        """What runc printed; see :meth:`run` for what happens on a cancel, and on each further one."""
        loop = asyncio.get_running_loop()
        deadline, cancelled = loop.time() + timeout_s, None
        while not self._ending.done() and (left_s := deadline - loop.time()) > 0:
            try:
                await asyncio.wait({self._ending}, timeout=left_s)
            except asyncio.CancelledError as error:
                if cancelled is None:
                    deadline = min(deadline, loop.time() + CANCEL_S_MAX)
                cancelled = error
        in_time = self._ending.done()
        if not in_time:
            await self._break_off()
        if cancelled is not None:
            raise cancelled
        if not in_time:
            raise CheckpointFailed(f"the dump took more than {timeout_s:.0f} s", "is the host overloaded?")
        return self._ending.result()[0]

    async def _break_off(self) -> None:
        """End a dump that takes too long, in order if possible: a CRIU that cannot send its pages gives up."""
        with contextlib.suppress(OSError):  # nobody is there any more
            self.pages.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({self._ending}, timeout=GIVES_UP_S_MAX)
        await _kill(self._process, self._ending)


def checkpoint_command(container_id: str, runc_root: Path, image_dir: Path, work_dir: Path) -> list[str]:
    """The command line of ``runc checkpoint``."""
    command = ["runc", "--root", str(runc_root), "checkpoint", "--leave-running", "--tcp-established", "--file-locks"]
    return [*command, "--image-path", str(image_dir), "--work-path", str(work_dir), container_id]


async def _start(
    command: list[str], variables: dict[str, str]
) -> tuple[asyncio.subprocess.Process, asyncio.CancelledError | None]:
    """Start the dump. A cancel meanwhile would lose sight of it, so it is handed on with it."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=variables,
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


async def _kill(process: asyncio.subprocess.Process, finishing: asyncio.Future[tuple[bytes, bytes]]) -> None:
    """Make sure that neither runc nor its CRIU goes on."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    while not finishing.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({finishing})
