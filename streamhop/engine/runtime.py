"""The OCI runtime that Docker is told of: runc, except for a container whose restore is pending.

Docker's shim calls ``RUNTIME [global options] COMMAND [options] ID`` for everything that happens to a container, all
its life. All calls go on to runc unchanged, by exec, unless ``<run_dir>/restores/<ID>/`` exists. Then

``create``
    waits until the daemon has the container's images, starts ``runc restore`` and returns once the container's first
    process and its namespaces exist, so that Docker can wire the network (see :mod:`.runtime_create`);
``start``
    lets the restore go on, waits for the daemon's GO and returns when the container runs;
``delete`` and ``kill`` with SIGKILL
    end the restore first.

Whatever goes wrong before GO makes the call fail: a container with a pending restore is never started afresh.

This module is what Docker waits for inside a move's downtime, so it imports next to nothing. It is run by the launcher
that :mod:`.setup` writes, as ``python3 -IS runtime.py --run-dir DIR -- ARGUMENTS``.
"""

from __future__ import annotations

import errno
import os
import sys

DEFAULT_RUN_DIR = "/run/streamhop"

CONTROL_FIFO = "control"
"""To the supervisor of a restore: lines ``start`` and ``abort``."""

ANSWER_FIFO = "answer"
"""From the supervisor: one line, ``running`` or why not. Its end without a line means that the supervisor died."""

RUNNING = "running"

_GLOBAL_WITH_VALUE = frozenset({"--root", "--log", "--log-format", "--criu", "--rootless"})
_COMMAND_WITH_VALUE = frozenset(
    {"--bundle", "-b", "--pid-file", "--console-socket", "--pidfd-socket", "--preserve-fds"}
)
_INTERCEPTED = frozenset({"create", "start", "delete", "kill"})
_KILL_SIGNALS = frozenset({"9", "KILL", "SIGKILL"})
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_ANSWER_BYTES_MAX = 4096


class Call:
    """A call of the runtime, taken apart.

    ``global_arguments`` are those before the command, as they came; ``options`` are the values of all options that
    have one, by name; ``flags`` those of the command that have none; ``operands`` the rest, first of them ``id``.
    """

    def __init__(
        self,
        global_arguments: list[str],
        command: str,
        options: dict[str, str],
        flags: set[str],
        operands: list[str],
    ) -> None:
        self.global_arguments = global_arguments
        self.command = command
        self.options = options
        self.flags = flags
        self.operands = operands

    @property
    def id(self) -> str:
        """The container's ID; empty if there is none that runc would accept."""
        first = self.operands[0] if self.operands else ""
        return first if first not in (".", "..") and _ID_CHARACTERS.issuperset(first) else ""


def parse(arguments: list[str]) -> Call:
    """Take a command line of runc apart; never fails, since what is not understood goes to runc unchanged."""
    options: dict[str, str] = {}
    flags: set[str] = set()
    rest = list(arguments)
    operands = _take(rest, _GLOBAL_WITH_VALUE, options, set(), first_only=True)
    command = operands[0] if operands else ""
    global_arguments = arguments[: len(arguments) - len(rest) - len(operands)]
    operands = _take(rest, _COMMAND_WITH_VALUE, options, flags, first_only=False)
    return Call(global_arguments, command, options, flags, operands)


def _take(
    rest: list[str], with_value: frozenset[str], options: dict[str, str], flags: set[str], *, first_only: bool
) -> list[str]:
    """Consume ``rest`` from the left, up to the first operand if ``first_only``; returns the operands."""
    operands: list[str] = []
    while rest and not (first_only and operands):
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            operands.append(word)
        elif name in with_value:
            options[name] = value if equals or not rest else rest.pop(0)
        else:
            flags.add(word)
    return operands


def find_runc() -> str:
    """The real runc: ``STREAMHOP_RUNC``, else the first in PATH.

    :raises FileNotFoundError: there is none.
    """
    chosen = os.environ.get("STREAMHOP_RUNC")
    if chosen:
        return chosen
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = os.path.join(directory, "runc")  # noqa: PTH118 - pathlib costs milliseconds to import
        if directory and os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError(errno.ENOENT, "streamhop's runtime finds no runc in PATH")


def fail(call: Call, reason: str) -> None:
    """Tell Docker why, where it looks for runc's own complaints: the last error of the log, and stderr."""
    import json

    log = call.options.get("--log")
    message = "streamhop: " + reason
    if log:
        with open(log, "a", encoding="utf-8") as file:  # noqa: PTH123 - as above
            if call.options.get("--log-format") == "json":
                file.write(json.dumps({"level": "error", "msg": message}) + "\n")
            else:
                file.write(f"level=error msg={json.dumps(message)}\n")
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def start(call: Call, restore_dir: str) -> int:
    """``start`` of a pending restore: returns when the container runs, or says why it does not."""
    answer = _ask_supervisor(restore_dir, b"start\n")
    if answer == RUNNING:
        return 0
    if not answer:
        _run_runc([*call.global_arguments, "delete", "--force", call.id])
        answer = "the restore's supervisor is gone; nothing was started"
    fail(call, answer)
    return 1


def abort(restore_dir: str) -> None:
    """End a pending restore; returns when nothing of it is left. No error if it is over already."""
    _ask_supervisor(restore_dir, b"abort\n")


def _ask_supervisor(restore_dir: str, request: bytes) -> str:
    """Send a request and wait for the outcome of the restore; empty if the supervisor is gone."""
    try:
        # Opened before asking, so that the answer is not missed; the supervisor's death shows as the end of the file.
        answer_fd = os.open(f"{restore_dir}/{ANSWER_FIFO}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        os.set_blocking(answer_fd, True)
        try:
            control_fd = os.open(f"{restore_dir}/{CONTROL_FIFO}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT):  # nobody reads it, or it is over just now
                return ""
            raise
        try:
            os.write(control_fd, request)
        finally:
            os.close(control_fd)
        return os.read(answer_fd, _ANSWER_BYTES_MAX).decode(errors="replace").strip()
    finally:
        os.close(answer_fd)


def _run_runc(arguments: list[str]) -> int:
    runc = find_runc()
    pid = os.posix_spawn(runc, [runc, *arguments], os.environ)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _own_options(arguments: list[str]) -> tuple[str, list[str]]:
    """Split off the launcher's ``--run-dir DIR --``."""
    if len(arguments) >= 3 and arguments[0] == "--run-dir" and arguments[2] == "--":
        return arguments[1], arguments[3:]
    return os.environ.get("STREAMHOP_RUN_DIR", DEFAULT_RUN_DIR), arguments


def main() -> None:
    """Entry point of ``streamhop-runtime`` and of the launcher."""
    run_dir, arguments = _own_options(sys.argv[1:])
    call = parse(arguments)
    restore_dir = f"{run_dir}/restores/{call.id}"
    try:
        if call.command in _INTERCEPTED and call.id and os.path.isdir(restore_dir):  # noqa: PTH112 - as above
            _intercept(call, run_dir, restore_dir)
        runc = find_runc()
        os.execv(runc, [runc, *arguments])  # noqa: S606 - no shell is wanted
    except OSError as error:
        fail(call, f"{call.command} of a container: {error}")
        sys.exit(1)


def _intercept(call: Call, run_dir: str, restore_dir: str) -> None:
    """What a call does about a pending restore. Returns if runc has to be called all the same."""
    if call.command == "create":
        if not __package__:
            # Run as a file, isolated from site-packages: find this package all the same, after the standard library.
            sys.path.append(os.path.abspath(__file__ + "/../../.."))  # noqa: PTH100 - as above
        from streamhop.engine.runtime_create import create

        sys.exit(create(call, run_dir, restore_dir))
    if call.command == "start":
        sys.exit(start(call, restore_dir))
    if call.command == "delete" or _KILL_SIGNALS.intersection(call.operands[1:]):
        abort(restore_dir)


if __name__ == "__main__":
    main()
