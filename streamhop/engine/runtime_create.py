"""``create`` of a pending restore: ask the daemon, change the bundle, leave the rest to a supervisor.

Standard library only. The conversation with the daemon is lines of JSON over a unix socket, see :mod:`.restores`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .runtime import ANSWER_FIFO, CONTROL_FIFO, Call, fail
from .supervisor import HOOK_GO_FIFO, HOOK_STATE_FIFO, Order, Supervisor

SOCKET_NAME = "runtime.sock"
"""The daemon's socket, in its run directory."""

LOCK = "lock"
"""Held (flock) in a restore's directory for as long as a process of ours is at it."""

LINE_BYTES_MAX = 64 * 1024

HOOK_S_MAX = 86_400
"""Longest that the hook may wait for memory to arrive and for Docker to wire the network. Only a safety net: it ends
when the supervisor dies, and that ends with the daemon's connection."""

_HOOK_SCRIPT = 'cat >"$1" && read -r word <"$2" && [ "$word" = go ]'


class CreateError(Exception):
    """The container cannot be restored; the text is what Docker shows."""


def create(call: Call, run_dir: str, restore_dir: str) -> int:
    """Returns what the runtime exits with: 0 once the container's first process exists."""
    try:
        pid = _create(call, Path(run_dir), Path(restore_dir))
        _write_pid_file(Path(call.options["--pid-file"]), pid)
    except KeyError as error:
        fail(call, f"create without {error.args[0]} cannot restore a container")
        return 1
    except (CreateError, OSError, ValueError) as error:
        # What the directory stood for has failed, and the daemon hears of it by the end of the connection.
        shutil.rmtree(restore_dir, ignore_errors=True)
        fail(call, str(error))
        return 1
    return 0


def _private(path: str, flags: int) -> int:
    """Opens for nobody else, whatever umask Docker runs this with."""
    return os.open(path, flags, 0o600)


def _create(call: Call, run_dir: Path, restore_dir: Path) -> int:
    bundle = Path(call.options["--bundle"]).absolute()
    # The supervisor is a copy of this process, and shares the lock; it lasts until both are gone.
    with open(restore_dir / LOCK, "wb", opener=_private) as lock, socket.socket(socket.AF_UNIX) as connection:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            connection.connect(str(run_dir / SOCKET_NAME))
            event = {"event": "create", "id": call.id, "bundle": str(bundle)}
            connection.sendall(json.dumps(event).encode() + b"\n")
            answer = _read_line(connection)
        except OSError as error:
            raise CreateError(f"the daemon that restores this container cannot be asked: {error.strerror}") from error
        order = read_order(answer)
        try:
            _prepare(bundle, restore_dir)
        except (CreateError, OSError, ValueError) as error:
            connection.sendall(json.dumps({"event": "failed", "reason": str(error)}).encode() + b"\n")
            raise
        return _start_supervisor(call, bundle, restore_dir, order, connection)


def _prepare(bundle: Path, restore_dir: Path) -> None:
    """Change the bundle's configuration and make what the supervisor, the hook and ``start`` talk through."""
    config = json.loads((bundle / "config.json").read_bytes())
    hook = ["/bin/sh", "-c", _HOOK_SCRIPT, "sh", str(restore_dir / HOOK_STATE_FIFO), str(restore_dir / HOOK_GO_FIFO)]
    _replace(bundle / "config.json", json.dumps(prepared_config(config, hook)).encode())
    for name in (CONTROL_FIFO, ANSWER_FIFO, HOOK_STATE_FIFO, HOOK_GO_FIFO):
        os.mkfifo(restore_dir / name, 0o600)


def _start_supervisor(call: Call, bundle: Path, restore_dir: Path, order: Order, connection: socket.socket) -> int:
    """Leave the rest to a process of its own; returns the number of the container's first process once it exists."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        exit_code = 1
        try:
            os.close(reading)
            exit_code = Supervisor(call, bundle, restore_dir, order, connection, writing).run()
        finally:
            os._exit(exit_code)  # whatever happens, this copy of `create` must not go on as one
    os.close(writing)
    with os.fdopen(reading, "rb") as report:
        answer = report.read(LINE_BYTES_MAX).decode(errors="replace").strip()
    if not answer.isdigit():
        raise CreateError(answer or "the restore's supervisor died")
    return int(answer)


def read_order(line: bytes) -> Order:
    """What the daemon wants done.

    :raises CreateError: it refuses, or went away.
    """
    if not line:
        raise CreateError("the daemon went away before the restore was ordered")
    message = json.loads(line)
    if "refuse" in message:
        raise CreateError(str(message["refuse"]))
    order = message["restore"]
    return Order(image=order["image"], work=order["work"], tcp=order["tcp"], launchers=order["launchers"])


def prepared_config(config: Mapping[str, Any], hook: list[str]) -> dict[str, Any]:
    """The bundle's configuration with our hook, which holds the restore until memory is there.

    An empty ``org.criu.config`` keeps runc from naming a configuration file of its own to CRIU, which would overrule
    ours; see criuSetup in runc, libcontainer/criu_linux.go.

    :raises CreateError: the container has no network namespace of its own, so that there is nothing to gate.
    """
    namespaces = config.get("linux", {}).get("namespaces") or []
    network = [entry for entry in namespaces if entry.get("type") == "network"]
    if not network or network[0].get("path"):
        raise CreateError("a container that shares its network with the host or another container cannot be restored")
    hooks = dict(config.get("hooks") or {})
    ours = {"path": hook[0], "args": ["sh", *hook[1:]], "timeout": HOOK_S_MAX}
    hooks["createRuntime"] = [*(hooks.get("createRuntime") or []), ours]
    annotations = {**(config.get("annotations") or {}), "org.criu.config": ""}
    return {**config, "hooks": hooks, "annotations": annotations}


def _read_line(connection: socket.socket) -> bytes:
    """One line, or nothing if the connection ends before; what comes behind it is left to the supervisor."""
    data = bytearray()
    while not data.endswith(b"\n") and len(data) < LINE_BYTES_MAX:
        ahead = connection.recv(4096, socket.MSG_PEEK)
        if not ahead:
            return b""
        data += connection.recv(ahead.find(b"\n") + 1 or len(ahead))
    return bytes(data)


def _write_pid_file(path: Path, pid: int) -> None:
    """As runc does: under another name first, so that nobody reads half a number."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(str(pid), encoding="ascii")
    temporary.replace(path)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.streamhop")
    temporary.write_bytes(data)
    temporary.chmod(path.stat().st_mode & 0o777)
    temporary.replace(path)
