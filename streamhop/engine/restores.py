"""The daemon's side of restores: gives the OCI runtime its orders and hears how it goes.

The runtime (:mod:`.runtime_create`, :mod:`.supervisor`) connects to ``<run_dir>/runtime.sock`` once for each restore.
Lines of JSON, at most 64 KiB each; the connection is the restore's life: either end closing it before GO ends the
restore, and nothing of the container is left::

    runtime: {"event": "create", "id": ..., "bundle": ...}      Docker has called `create`
    daemon:  {"restore": {"image": ..., "work": ..., "tcp": "close" | "established", "launchers": ...}}
             or  {"refuse": "why"}
    daemon:  {"begin": {"network_first": bool}}                 all images but memory are there
    daemon:  {"complete": true}                                 memory is there too  or, at any time,  {"refuse": "why"}
    runtime: {"event": "restored", "timings": {name: seconds}}  every task is there, stopped, behind the closed gate
    daemon:  {"go": true}  or  {"refuse": "why"}
    runtime: {"event": "running"}                               the gate is open, every task continued
    runtime: {"event": "failed", "reason": "why"}               instead of any of its events

A pending restore is announced to the runtime by the directory ``<run_dir>/restores/<ID>/``, which the runtime removes
when the restore is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .kept_logs import explain_and_keep
from .runtime_create import LINE_BYTES_MAX, LOCK, SOCKET_NAME
from .supervisor import let_go_mark

__all__ = ["Bundle", "PendingRestore", "RestoreFailed", "RestoreServer", "bundle_from_config"]

CONFIG_BYTES_MAX = 16 * 1024 * 1024

READY_S_MAX = 60.0
"""How long runc may take until nothing but CRIU's images is missing."""

REFUSE_S_MAX = 30.0
"""How long the runtime may take to kill what it has restored so far."""

ENDED_POLL_S = 0.05
"""How often to look whether the runtime has ended: it may be one of an earlier daemon, which tells nobody."""

_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


class RestoreFailed(Exception):  # noqa: N818 - the callers' name for it
    """A restore ended before the container ran; nothing of it is left.

    :param fix: what to do about it; may be empty.
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Bundle:
    """Where a container about to be restored has its files on this host."""

    path: Path
    rootfs: Path
    """The merged root file system, mounted."""

    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Bind mounts: destination in the container to source on the host. A tmpfs has no place on the host."""


def bundle_from_config(path: Path, config: Mapping[str, Any]) -> Bundle:
    """What an OCI bundle's ``config.json`` says about places.

    Source: OCI runtime specification, config.md, "Root" and "Mounts": relative paths are relative to the bundle.

    :raises RestoreFailed: it names no root.
    """
    root = config.get("root")
    if not isinstance(root, dict) or not isinstance(root.get("path"), str):
        raise RestoreFailed(f"the bundle {path} has no root file system")
    mounts = {
        os.path.normpath(mount["destination"]): path / mount["source"]
        for mount in config.get("mounts") or ()
        if mount.get("source") and ({"bind", "rbind"} & set(mount.get("options") or ()) or mount.get("type") == "bind")
    }
    return Bundle(path, path / root["path"], mounts)


class PendingRestore:
    """One restore, from before ``docker start`` to the first instruction. Made by :meth:`RestoreServer.expect`.

    The calls come in this order: :meth:`bundle`, :meth:`get_ready`, :meth:`begin`, :meth:`complete`, :meth:`restored`,
    :meth:`go`; :meth:`refuse` at any time before. All but :meth:`refuse` and :meth:`discard` raise
    :class:`RestoreFailed` once the restore has ended.
    """

    def __init__(self, container: str, directory: Path) -> None:
        self.container = container
        self._directory = directory
        self._writer: asyncio.StreamWriter | None = None
        self._work: Path | None = None
        self._logs: Path | None = None
        self._bundle: Bundle | None = None
        self._timings: dict[str, float] = {}
        self._refusal: str | None = None
        self._failure: RestoreFailed | None = None
        self._created, self._ready, self._restored, self._running, self._over = (asyncio.Event() for _ in range(5))

    # -- for the daemon --------------------------------------------------------------------------------------------

    async def bundle(self) -> Bundle:
        """Wait until Docker has called the runtime's ``create``; the root file system is mounted then."""
        await self._reached(self._created)
        if self._bundle is None:
            raise RestoreFailed("the runtime has not said where the bundle is")
        return self._bundle

    async def get_ready(
        self, image: Path, work: Path, launchers: Path, tcp: str = "close", logs: Path | None = None
    ) -> None:
        """Let runc get as far as it can without CRIU's images; returns when nothing but those is missing.

        :param image: where they will be; ``descriptors.json`` must be there already.
        :param work: directory for CRIU's log.
        :param launchers: where :func:`.setup.install_stand_in` was called.
        :param tcp: ``close`` restores established connections closed, ``established`` as they were.
        :param logs: where CRIU's log is kept if the restore fails; None: nowhere.
        """
        if tcp not in ("close", "established"):
            raise ValueError(f"unknown way to restore TCP connections: {tcp!r}")
        await self._reached(self._created)
        self._work, self._logs = work, logs
        places = {"image": str(image.absolute()), "work": str(work.absolute()), "launchers": str(launchers.absolute())}
        await self._send({"restore": {**places, "tcp": tcp}})
        try:
            async with asyncio.timeout(READY_S_MAX):
                await self._reached(self._ready)
        except TimeoutError:
            raise RestoreFailed(
                f"runc has not come to the restore within {READY_S_MAX:.0f} s",
                "run `streamhop setup` if streamhop was updated since; else look at the load of the target",
            ) from None

    async def begin(self, *, network_first: bool) -> None:
        """All images but memory are there: let CRIU make the first process, and Docker wire; returns at once.

        :param network_first: whether Docker has to have wired the network before CRIU can restore the processes.
        """
        await self._reached(self._created)
        await self._send({"begin": {"network_first": network_first}})

    async def complete(self) -> None:
        """Memory is there too, and everything was verified: let CRIU restore the processes; returns at once."""
        await self._reached(self._created)
        await self._send({"complete": True})

    async def restored(self) -> dict[str, float]:
        """Wait until every task is there, stopped behind the closed gate; returns what took how many seconds."""
        await self._reached(self._restored)
        return dict(self._timings)

    async def fail(self) -> None:
        """Wait until the restore ends before its time, such as while memory is awaited; returns when it runs.

        :raises RestoreFailed: why it ended.
        """
        await self._reached(self._over)

    async def go(self) -> None:
        """Open the gate and let the container run; returns when it does.

        :raises RestoreFailed: it may run or not if the runtime died at this very moment: ask Docker.
        """
        await self._reached(self._restored)
        await self._send({"go": True})
        await self._reached(self._running)

    async def refuse(self, reason: str) -> None:
        """End the restore: ``docker start`` fails with ``reason``. Safe to repeat; too late after :meth:`go`.

        Returns when the runtime has cleared up, or after :data:`REFUSE_S_MAX`: ``docker start`` tells when it has.
        If Docker has not called it yet, it is refused when it does; call :meth:`discard` once ``docker start`` has
        returned.
        """
        if self._refusal is None and not self._running.is_set():
            self._refusal = reason
            if self._writer is not None and not self._over.is_set():
                with contextlib.suppress(RestoreFailed):
                    await self._send({"refuse": reason})
        if self._writer is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFUSE_S_MAX):
                    await self._over.wait()

    def discard(self) -> None:
        """Forget the restore, when ``docker start`` has returned or was never called. Safe to repeat."""
        shutil.rmtree(self._directory, ignore_errors=True)
        if self._writer is not None:
            self._writer.close()

    async def _reached(self, stage: asyncio.Event) -> None:
        await stage.wait()
        if self._failure is not None:
            raise RestoreFailed(str(self._failure), self._failure.fix)

    async def _send(self, message: dict[str, Any]) -> None:
        if self._writer is None:
            raise RestoreFailed("the runtime is not connected")
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()
        except ConnectionError as error:
            raise RestoreFailed("the runtime went away") from error

    # -- for the server --------------------------------------------------------------------------------------------

    async def serve(self, bundle: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hear the runtime out; returns when the connection is over."""
        if self._writer is not None:
            raise RestoreFailed("the runtime has asked for this restore before")
        self._writer = writer
        reason = "the runtime went away"
        try:
            if self._refusal is not None:
                await self._send({"refuse": self._refusal})
            config = await asyncio.to_thread(_read_config, bundle)
            self._bundle = bundle_from_config(bundle, config)
            self._created.set()
            while line := await reader.readline():
                event = json.loads(line)
                if event["event"] == "failed":
                    reason = str(event["reason"])
                    break
                self._take(event)
        except RestoreFailed as error:
            reason = str(error)
        except ConnectionError:
            reason = "the runtime went away"
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"the runtime is not understood: {error!r}"
        finally:
            await self._end(reason)

    def _take(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "ready":
                self._ready.set()
            case "restored":
                self._timings = {str(name): float(value) for name, value in event["timings"].items()}
                self._restored.set()
            case "running":
                self._running.set()
            case other:
                raise ValueError(f"unknown event {other!r}")

    async def _end(self, reason: str) -> None:
        if not self._running.is_set():
            cause, fix = "", ""
            if self._work is not None and self._refusal is None:
                cause, fix = await asyncio.to_thread(
                    explain_and_keep, self._work / "restore.log", self._logs, "restore"
                )
            self._failure = RestoreFailed(f"{reason}: {cause}" if cause else reason, fix if cause else "")
        for stage in (self._created, self._ready, self._restored, self._running, self._over):
            stage.set()


def _is_over(directory: Path) -> bool:
    """Whether the runtime is done with a restore: it removed the directory, or died and so let go of the lock in it."""
    try:
        with (directory / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except FileNotFoundError:
        # No lock yet: Docker may be about to call `create`.
        return not directory.exists()


def _read_config(bundle: Path) -> dict[str, Any]:
    with (bundle / "config.json").open("rb") as file:
        config = json.loads(file.read(CONFIG_BYTES_MAX))
    if not isinstance(config, dict):
        raise TypeError("config.json is not an object")
    return config


class RestoreServer:
    """Listens for the runtime while its context is open.

    :param run_dir: the directory that the runtime was registered with.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._pending: dict[str, PendingRestore] = {}
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """:raises OSError: the socket cannot be made."""
        path = self._run_dir / SOCKET_NAME
        if len(os.fsencode(path)) > 107:
            raise OSError(f"run_dir is too long for a socket in it: {path}")
        # Directories of an earlier daemon's restores stay: Docker may just now be about to call `create` for one, and
        # without its directory would start the container afresh. The runtime removes them as it refuses.
        (self._run_dir / "restores").mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, path, limit=LINE_BYTES_MAX)
        finally:
            os.umask(mask)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        (self._run_dir / SOCKET_NAME).unlink(missing_ok=True)

    def expect(self, container: str) -> PendingRestore:
        """Announce a restore; ``docker start`` of the container comes after this, and waits for it.

        :param container: the container's full ID.
        :raises OSError: the directory that announces it cannot be made, or is there already.
        """
        directory = self._directory(container)
        directory.mkdir(mode=0o700)
        pending = PendingRestore(container, directory)
        self._pending[container] = pending
        return pending

    async def ended(self, container: str, seconds: float) -> bool:
        """Whether the runtime has ended its restore of ``container``, also one of an earlier daemon.

        :param seconds: how long to wait for it.
        """
        directory = self._directory(container)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not _is_over(directory):  # noqa: ASYNC110 - another process ends it
                    await asyncio.sleep(ENDED_POLL_S)
        return _is_over(directory)

    def was_let_go(self, container: str) -> bool:
        """Whether the runtime let the container run, also at the word of an earlier daemon, since this host started.

        Until :meth:`forget`.
        """
        return let_go_mark(self._directory(container)).exists()

    def forget(self, container: str) -> None:
        """Withdraw the announcement of a restore, and forget that it was one. Safe to repeat.

        For a container that is gone, or of which the caller knows by itself that it runs.
        """
        self._pending.pop(container, None)
        shutil.rmtree(self._directory(container), ignore_errors=True)
        let_go_mark(self._directory(container)).unlink(missing_ok=True)

    def _directory(self, container: str) -> Path:
        if not _ID.fullmatch(container):
            raise ValueError(f"{container!r} is not a container's ID")
        return self._run_dir / "restores" / container

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, ValueError, asyncio.CancelledError):
            # The runtime takes the end of the connection for a refusal; asyncio would only log a cancel at shutdown.
            return
        finally:
            if task is not None:
                self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        event = json.loads(await reader.readline() or b"null")
        if not isinstance(event, dict) or event.get("event") != "create":
            return
        container = str(event.get("id"))
        pending = self._pending.get(container)
        if pending is None:
            writer.write(json.dumps({"refuse": "the daemon expects no restore of this container"}).encode() + b"\n")
            await writer.drain()
            return
        try:
            await pending.serve(Path(str(event.get("bundle"))), reader, writer)
        finally:
            self._pending.pop(container, None)
