"""Sees one restore through, from ``create`` to the container's first instruction. A process of its own.

It owns ``runc restore``, holds the connection to the daemon, and is asked by the runtime's other calls through FIFOs in
the restore's directory. Its life::

    runc restore started -> CRIU waits: daemon told -> process images are there: CRIU let go
    -> hook: first process exists -> gate closed
    -> `create` returns -> Docker wires the network -> `start` asks
    -> memory is there too: hook let go -> CRIU done, every task stopped -> daemon told
    -> GO -> gate opened, tasks continued

The hook waits for memory, and for `start` only if the images need the network to be there first: CRIU goes on while
Docker wires. With a terminal it never waits for `start`: Docker waits for the terminal, which CRIU makes late, before
it wires.

Anything else than that, the daemon's end included, ends with nothing of the container left. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .announcing import REPEATS_S, Announcer
from .criu_when_told import GO, environment, listen
from .nftgate import Gate, GateError
from .processes import descendants
from .runtime import ANSWER_FIFO, CONTROL_FIFO, RUNNING, Call, find_runc

HOOK_STATE_FIFO = "hook-state"
"""From the hook: the container's state as runc gives it to hooks, JSON."""

HOOK_GO_FIFO = "hook-go"
"""To the hook: ``go`` lets the restore go on, anything else fails it."""

CRIU_CONFIG = "criu.conf"

UNDO_S_MAX = 10.0

_READ_BYTES = 64 * 1024


def let_go_mark(restore_dir: Path) -> Path:
    """The file whose existence says that the container of this restore was let run.

    Outside of the restore's directory: while that is there the runtime takes a start for a restore.
    """
    return restore_dir.parent.parent / "let-go" / restore_dir.name


@dataclass(frozen=True, slots=True)
class Order:
    """What to restore. ``tcp``: ``close`` restores established connections closed, ``established`` as they were."""

    image: str
    """Where the images will be. What runc itself reads is there from the start."""

    work: str
    tcp: str
    launchers: str
    """The directory of the launcher of :mod:`.criu_when_told`."""


class RestoreError(Exception):
    """The restore cannot go on; the text says why."""


class Supervisor:
    """See the module.

    :param daemon: the connection on which the daemon has given its order.
    :param report_fd: where ``create`` waits for one line: the process's number, or why there is none.
    """

    def __init__(
        self, call: Call, bundle: Path, restore_dir: Path, order: Order, daemon: socket.socket, report_fd: int
    ) -> None:
        self._call = call
        self._bundle = bundle
        self._dir = restore_dir
        self._order = order
        self._daemon = daemon
        self._report_fd = report_fd
        self._terminal = "--console-socket" in call.options
        self._runc: subprocess.Popen[bytes] | None = None
        self._listener: socket.socket | None = None
        self._stand_in: socket.socket | None = None
        """The connection of the CRIU that waits."""
        self._pid = 0
        self._committed = False
        self._buffers = {"daemon": b"", "control": b"", "hook": b""}
        self._timings: dict[str, float] = {}

    # -- the whole of it -------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Returns what the process exits with."""
        os.setsid()
        # Read and write: neither an open nor a read ends only because nobody has the other end open just now.
        self._control_fd, self._answer_fd, self._state_fd, self._go_fd = (
            os.open(self._dir / name, os.O_RDWR | os.O_CLOEXEC)
            for name in (CONTROL_FIFO, ANSWER_FIFO, HOOK_STATE_FIFO, HOOK_GO_FIFO)
        )
        reason = "the restore's supervisor failed"
        try:
            self._restore()
            self._await_go()
            self._open()
            self._announce()
        except (RestoreError, GateError, OSError, ValueError) as error:
            reason = str(error)
        finally:
            if not self._committed:
                self._undo()
                self._clear()
                self._tell_daemon({"event": "failed", "reason": reason})
                self._tell_create(reason)
                self._answer(reason)
        return 0 if self._committed else 1

    def _restore(self) -> None:
        """Until every task of the container is there, stopped."""
        self._start_runc()
        network_first = self._await_process_images()
        self._timings["restore_hook_s"] = self._lap(self._await_hook)
        # Kept for GO: closing the gate's socket takes the kernel longer than everything that is done through it.
        self._gate = Gate(self._pid)
        self._gate.close_gate()
        self._tell_create(str(self._pid))
        if network_first and not self._terminal:
            self._await_start()
        self._timings["restore_wait_s"] = self._lap(self._await_memory)
        self._release_hook()
        self._timings["restore_criu_s"] = self._lap(self._await_runc)
        self._await_start()
        self._tell_daemon({"event": "restored", "timings": self._timings})

    def _open(self) -> None:
        """GO is here: from the first SIGCONT on the container runs, whatever happens."""
        self._gate.open_gate()
        tasks = list(descendants(self._pid))
        if len(tasks) == 1 and not _is_there(self._pid):
            raise RestoreError("the restored container was killed while it waited for GO")
        # Before the first instruction: who asks later must not take one that ran for one that never did.
        mark = let_go_mark(self._dir)
        mark.parent.mkdir(mode=0o700, exist_ok=True)
        mark.touch(mode=0o600)
        # From here on a `start` of this container is runc's own again, such as after a later stop.
        self._clear()
        self._committed = True
        for pid in tasks:
            # One that a signal killed meanwhile is the container's own matter now.
            _signal(pid, signal.SIGCONT)
        self._tell_daemon({"event": "running"})
        self._answer(RUNNING)

    def _announce(self) -> None:
        """Where addresses came along, tell the neighbours; nothing hangs on it, and nobody waits for it."""
        if self._order.tcp != "established":
            return
        self._daemon.close()
        with contextlib.suppress(OSError), Announcer(self._pid) as announcer:
            began = time.monotonic()
            for after_s in (0.0, *REPEATS_S):
                time.sleep(max(0.0, began + after_s - time.monotonic()))
                announcer.announce()

    # -- steps -----------------------------------------------------------------------------------------------------

    def _start_runc(self) -> None:
        config = self._dir / CRIU_CONFIG
        config.touch(mode=0o600)
        config.write_text(criu_config(self._order), encoding="ascii")
        self._listener = listen(str(self._dir))
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        # With a terminal, Docker reads the runtime's output until every holder of it is gone: hold none.
        inherited = null if self._terminal else None
        self._runc = subprocess.Popen(
            restore_command(find_runc(), self._call, self._bundle, self._order),
            stdin=inherited,
            stdout=inherited,
            stderr=inherited,
            env={**environment(self._order.launchers, str(self._dir)), "CRIU_CONFIG_FILE": str(config)},
        )
        for number in range(3):
            os.dup2(null, number)
        self._runc_fd = os.pidfd_open(self._runc.pid)

    def _await_process_images(self) -> bool:
        """Let CRIU go once it is ready and may begin; returns whether Docker has to wire first."""
        network_first: bool | None = None
        while network_first is None or self._stand_in is None:
            # What comes after it stays for later.
            message = self._daemon_message() if network_first is None else None
            if message is not None and "begin" in message:
                network_first = bool(message["begin"]["network_first"])
                continue
            self._wait()
            if self._exit_code is not None:
                raise RestoreError(f"runc restore ended with exit code {self._exit_code} before CRIU began")
        with contextlib.suppress(ConnectionError):  # it has died, which runc will tell
            self._stand_in.sendall(GO)
        return network_first

    def _await_hook(self) -> None:
        while not self._pid:
            self._wait()
            try:
                self._pid = int(json.loads(self._buffers["hook"])["pid"])
            except ValueError as error:  # not all of it has come
                if self._exit_code is not None:
                    raise RestoreError(f"runc restore ended with exit code {self._exit_code}") from error

    def _await_start(self) -> None:
        while "start" not in self._control_lines():
            self._wait()
            self._check_runc()

    def _await_memory(self) -> None:
        while True:
            message = self._daemon_message()
            if message is not None and "complete" in message:
                return
            self._wait()
            self._check_runc()

    def _check_runc(self) -> None:
        if self._exit_code:
            raise RestoreError(f"runc restore failed with exit code {self._exit_code}")

    def _await_runc(self) -> None:
        while self._exit_code is None:
            self._wait()
        self._check_runc()

    def _await_go(self) -> None:
        while True:
            message = self._daemon_message()
            if message is not None and "go" in message:
                return
            self._wait()

    @property
    def _exit_code(self) -> int | None:
        return self._runc.poll() if self._runc is not None else None

    def _release_hook(self) -> None:
        os.write(self._go_fd, b"go\n")

    def _lap(self, step: Callable[[], None]) -> float:
        began = time.monotonic()
        step()
        return time.monotonic() - began

    # -- waiting ---------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Return when something happened; what it was is in the buffers.

        :raises RestoreError: the daemon refuses or is gone, or Docker wants the container gone.
        """
        self._check_refused()
        poll = select.poll()
        sources = {self._daemon.fileno(): "daemon", self._control_fd: "control"}
        listening = self._listener.fileno() if self._listener is not None and self._stand_in is None else -1
        if not self._pid:
            sources[self._state_fd] = "hook"
        for fd in sources:
            poll.register(fd, select.POLLIN)
        if listening >= 0:
            poll.register(listening, select.POLLIN)
        if self._exit_code is None:
            poll.register(self._runc_fd, select.POLLIN)
        for fd, _ in poll.poll():
            if fd in sources:
                data = os.read(fd, _READ_BYTES)
                self._buffers[sources[fd]] += data
                if not data and sources[fd] == "daemon":
                    raise RestoreError("the daemon that restores this container went away before it said GO")
            elif fd == listening and self._listener is not None:
                self._stand_in = self._listener.accept()[0]
                self._tell_daemon({"event": "ready"})
        self._check_refused()
        if "abort" in self._control_lines():
            raise RestoreError("the container was killed or removed while its restore was pending")

    def _daemon_message(self) -> dict[str, Any] | None:
        self._check_refused()
        line, newline, rest = self._buffers["daemon"].partition(b"\n")
        if not newline:
            return None
        self._buffers["daemon"] = rest
        message = json.loads(line)
        return message if isinstance(message, dict) else None

    def _check_refused(self) -> None:
        """A refusal counts wherever it stands: what came before it may not be read for a while."""
        for line in self._buffers["daemon"].split(b"\n")[:-1]:
            message = json.loads(line)
            if isinstance(message, dict) and "refuse" in message:
                raise RestoreError(str(message["refuse"]))

    def _control_lines(self) -> list[str]:
        return self._buffers["control"].decode(errors="replace").split("\n")[:-1]

    # -- telling ---------------------------------------------------------------------------------------------------

    def _tell_daemon(self, event: dict[str, Any]) -> None:
        """A daemon that is gone shows when it is read from, before GO; after GO nothing hangs on it."""
        try:
            self._daemon.sendall(json.dumps(event).encode() + b"\n")
        except OSError:
            return

    def _tell_create(self, line: str) -> None:
        if self._report_fd < 0:
            return
        try:
            os.write(self._report_fd, line.encode() + b"\n")
        except BrokenPipeError:  # `create` was killed; Docker will call `delete`
            pass
        finally:
            os.close(self._report_fd)
            self._report_fd = -1

    def _answer(self, line: str) -> None:
        """To whoever waits. The end of the FIFO, which our exit brings, tells those that get no line."""
        os.set_blocking(self._answer_fd, False)
        os.write(self._answer_fd, line.encode()[:1000].replace(b"\n", b" ") + b"\n")

    # -- undoing ---------------------------------------------------------------------------------------------------

    def _undo(self) -> None:
        """Leave nothing of the container."""
        if self._pid:
            # The first process of a PID namespace takes the others with it, stopped or half restored.
            _signal(self._pid, signal.SIGKILL)
        for connection in (self._stand_in, self._listener):
            if connection is not None:
                connection.close()
        if self._runc is not None and self._runc.poll() is None:
            os.write(self._go_fd, b"no\n")
            try:
                self._runc.wait(UNDO_S_MAX)
            except subprocess.TimeoutExpired:
                self._runc.kill()
                self._runc.wait()
        command = [find_runc(), *self._call.global_arguments, "delete", "--force", self._call.id]
        with contextlib.suppress(subprocess.TimeoutExpired):  # Docker calls `delete` too
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=UNDO_S_MAX)

    def _clear(self) -> None:
        shutil.rmtree(self._dir, ignore_errors=True)


def criu_config(order: Order) -> str:
    """CRIU's options that runc does not pass: every task is left stopped; the gate does what locks would do.

    :raises RestoreError: an unknown way to treat established connections.
    """
    if order.tcp not in ("close", "established"):
        raise RestoreError(f"unknown way to restore TCP connections: {order.tcp!r}")
    return "leave-stopped\nnetwork-lock skip\n" + ("tcp-close\n" if order.tcp == "close" else "")


def restore_command(runc: str, call: Call, bundle: Path, order: Order) -> list[str]:
    """The command line of ``runc restore`` that stands for the ``create`` of ``call``."""
    command = [runc, *call.global_arguments, "restore", "--detach", "--file-locks", "--bundle", str(bundle)]
    command += ["--image-path", order.image, "--work-path", order.work]
    if order.tcp == "established":
        command.append("--tcp-established")
    if "--console-socket" in call.options:
        command += ["--console-socket", call.options["--console-socket"]]
    if "--no-pivot" in call.flags:
        command.append("--no-pivot")
    return [*command, call.id]


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").is_dir()
