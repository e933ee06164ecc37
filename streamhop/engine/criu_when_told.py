"""Stands in for ``criu`` in front of runc: lets runc get as far as it can, and CRIU begin when it is told.

runc takes longer to come to the point than CRIU needs for a small container: it starts, asks CRIU for its version,
makes ready. All of that can be done before the container is frozen, or before its images are complete. A directory with
a launcher named ``criu`` comes first in runc's PATH; runc runs ``criu swrk FD`` and sends its request over that socket.
A request to dump or to restore waits: the stand-in connects to the socket in the directory that :data:`DIRECTORY` names
and reads; :data:`GO` lets CRIU begin, anything else, or the end of the connection, ends it. A CRIU that dumps keeps the
connection as :data:`PAGES_DESCRIPTOR`. Whatever else is asked goes on to the real ``criu`` at once.

Source: CRIU's images/rpc.proto (criu_req: field 1 is the type; 1 = DUMP, 2 = RESTORE); runc's criuSwrk in
libcontainer/criu_linux.go.

Run as ``python3 -IS criu_when_told.py ARGUMENTS`` by the launcher, so it imports next to nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` and `socket` themselves cost milliseconds to import
    import socket

DIRECTORY = "STREAMHOP_CRIU_DIR"
"""Environment variable: where the socket is on which the word comes."""

SOCKET_NAME = "criu.sock"

GO = b"go\n"

PAGES_DESCRIPTOR = 100
"""What CRIU's option ``ps-socket`` names; above all that runc passes on, below all that CRIU keeps for itself."""

PAGES_ON_THEIR_WAY_BYTES_MAX = 1024 * 1024

LAUNCHER_NAME = "criu"

_LAUNCHER = """\
#!/bin/sh
# Goes before CRIU where streamhop calls runc, see {module}.
exec {python} -IS {module} "$@"
"""

_DUMP, _RESTORE = 1, 2
_SO_SNDBUFFORCE = 32
"""socket(7); Python has no name for it."""
_REQUEST_BYTES = 16


def launcher_text(python: str, module: str) -> str:
    """The launcher's script.

    :param python: the interpreter, and
    :param module: this file, both as a shell reads them.
    """
    return _LAUNCHER.format(python=python, module=module)


def environment(launchers: str, directory: str) -> dict[str, str]:
    """The environment in which runc lets CRIU wait.

    :param launchers: the directory of the launcher.
    :param directory: where :func:`listen` was called.
    """
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": launchers + os.pathsep + path, DIRECTORY: directory}


def listen(directory: str) -> socket.socket:
    """The socket on which a stand-in that waits connects; root's alone, as the directory has to be.

    :raises OSError: it cannot be made.
    """
    import socket

    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # By the directory's descriptor: its own path may be longer than an address may be.
    opened = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found.bind(_place(opened))
        os.chmod(_place(opened), 0o600)  # noqa: PTH101 - pathlib costs milliseconds to import
        found.listen(1)
    except OSError:
        found.close()
        raise
    finally:
        os.close(opened)
    return found


def has_to_wait(request: bytes) -> bool:
    """Whether a request, of which the beginning is enough, dumps or restores.

    protobuf leaves the order of fields to the sender; all known ones write them as they are numbered.
    """
    return len(request) >= 2 and request[0] == 0x08 and request[1] in (_DUMP, _RESTORE)


def real_criu(path: str, own_directory: str) -> str:
    """The first ``criu`` in ``path`` that is not the launcher.

    :raises FileNotFoundError: there is none.
    """
    for directory in path.split(os.pathsep):
        candidate = os.path.join(directory, LAUNCHER_NAME)  # noqa: PTH118 - as above
        if directory and directory != own_directory and os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError("streamhop finds no criu in PATH")


def _place(directory: int) -> str:
    return f"/proc/self/fd/{directory}/{SOCKET_NAME}"


def _peek(descriptor: int) -> bytes:
    """The beginning of what runc asks, which stays there for CRIU."""
    import _socket

    connection = _socket.socket(fileno=os.dup(descriptor))
    try:
        return connection.recv(_REQUEST_BYTES, _socket.MSG_PEEK)
    finally:
        connection.close()


def _let_go(directory: str) -> int:
    """Say that CRIU waits, by connecting; returns the connection when the word has come, -1 if it is another."""
    import _socket

    opened = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(_place(opened))
        # Beyond what others may have on their way: root's to say.
        connection.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, PAGES_ON_THEIR_WAY_BYTES_MAX)
        return connection.detach() if connection.recv(len(GO)) == GO else -1
    finally:
        connection.close()
        os.close(opened)


def main() -> None:
    """Entry point of the launcher."""
    arguments = sys.argv[1:]
    own_directory, _, rest = os.environ.get("PATH", os.defpath).partition(os.pathsep)
    criu = real_criu(rest, own_directory)
    asked = len(arguments) == 2 and arguments[0] == "swrk" and arguments[1].isdigit()
    directory = os.environ.get(DIRECTORY, "")
    request = _peek(int(arguments[1])) if asked and directory else b""
    if has_to_wait(request):
        connection = _let_go(directory)
        if connection < 0:
            sys.exit("streamhop does not want it any more")
        if request[1] == _DUMP:
            os.dup2(connection, PAGES_DESCRIPTOR)
        os.close(connection)
    os.execv(criu, [criu, *arguments])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
