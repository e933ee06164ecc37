"""What the kernel's text files and replies about processes say. Pure; broken lines are passed over.

Formats: proc_pid_status(5), proc_pid_maps(5), proc_pid_mountinfo(5), proc_pid_fdinfo(5), sock_diag(7).
"""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_ESCAPE = re.compile(r"\\([0-7]{3})")
_MAP = re.compile(r"([0-9a-f]+-[0-9a-f]+) (\S{4}) [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+)(?:\s+(.*))?")


@dataclass(frozen=True, slots=True)
class MappingLine:
    """One mapping of a file, or of something that has a name."""

    place: str
    """``start-end`` in hexadecimal without leading zeros, as the entries of map_files are called."""

    path: str
    device: str
    inode: int


@dataclass(frozen=True, slots=True)
class MountLine:
    """One mount."""

    id: int
    device: int
    """As ``st_dev`` has it."""

    root: str
    """Which directory of its file system is mounted."""

    place: str
    """Mount point, as the process sees it."""

    kind: str
    """File system type."""


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A unix socket of one network namespace."""

    inode: int
    peer: int
    """Inode of the socket that it is connected to; 0 if it is not, or not accepted yet."""

    name: str = ""


def status_fields(text: str) -> dict[str, str]:
    """The fields of a status file by name."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}


def number_in(text: str | None) -> int:
    """The last number of a field, which is the one in the innermost namespace; 0 if there is none."""
    words = (text or "").split()
    return int(words[-1]) if words and words[-1].isascii() and words[-1].isdigit() else 0


def named_mappings(maps: str) -> Iterator[MappingLine]:
    """Mappings that have a name, one for each file or name: one of a file says as much as all of them."""
    seen = set()
    for line in maps.splitlines():
        match = _MAP.fullmatch(line)
        if match is None or not match[5]:
            continue
        path = _unescaped(match[5])
        key = path, match[3], match[4]
        if key not in seen:
            seen.add(key)
            yield MappingLine(_without_zeros(match[1]), path, match[3], int(match[4]))


def mount_lines(mountinfo: str) -> list[MountLine]:
    """The mounts of a mountinfo file, in its order."""
    found = []
    for line in mountinfo.splitlines():
        left, dash, right = line.partition(" - ")
        fields, details = left.split(" "), right.split(" ")
        major, _, minor = fields[2].partition(":") if len(fields) >= 6 else ("", "", "")
        if dash and fields[0].isdigit() and major.isdigit() and minor.isdigit() and details[0]:
            device = _device(int(major), int(minor))
            found.append(
                MountLine(int(fields[0]), device, _unescaped(fields[3]), _unescaped(fields[4]), _unescaped(details[0]))
            )
    return found


def mount_id_in(fdinfo: str) -> int | None:
    """The ID of the mount that a descriptor's file was opened on."""
    for line in fdinfo.splitlines():
        name, _, value = line.partition(":")
        if name == "mnt_id" and value.strip().isdigit():
            return int(value)
    return None


def _device(major: int, minor: int) -> int:
    """As ``os.makedev``, which refuses numbers that a broken line may have."""
    return (minor & 0xFF) | ((major & 0xFFF) << 8) | ((minor & ~0xFF) << 12) | ((major & ~0xFFF) << 32)


def _without_zeros(place: str) -> str:
    start, _, end = place.partition("-")
    return f"{int(start, 16):x}-{int(end, 16):x}"


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8) & 0xFF), text)


# -- sock_diag ---------------------------------------------------------------------------------------------------------

_NLMSG_ERROR, _NLMSG_DONE, _SOCK_DIAG_BY_FAMILY = 2, 3, 20
_REQUEST_AND_DUMP = 0x301
_AF_UNIX = 1
_ALL_STATES = 0xFFFFFFFF
_SHOW_NAME_AND_PEER = 0x1 | 0x4
_ATTRIBUTE_NAME, _ATTRIBUTE_PEER = 0, 2
_HEADER = struct.Struct("=IHHII")
_UNIX_REQUEST = struct.Struct("=BBHIIIII")
_UNIX_MESSAGE = struct.Struct("=BBBBIII")
_ERRNO = struct.Struct("=i")


def unix_question(sequence: int = 1) -> bytes:
    """The netlink message that asks for all unix sockets of a network namespace, with their peers."""
    body = _UNIX_REQUEST.pack(_AF_UNIX, 0, 0, _ALL_STATES, 0, _SHOW_NAME_AND_PEER, 0xFFFFFFFF, 0xFFFFFFFF)
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_AND_DUMP, sequence, 0) + body


def unix_answer(reply: bytes) -> tuple[list[UnixSocket], int | None]:
    """What one datagram of the answer holds.

    :returns: sockets, and None if more follows, 0 at the end, the errno if it failed.
    """
    found: list[UnixSocket] = []
    offset = 0
    while offset + _HEADER.size <= len(reply):
        length, kind, *_ = _HEADER.unpack_from(reply, offset)
        body = reply[offset + _HEADER.size : offset + length]
        if kind == _NLMSG_DONE:
            return found, 0
        if kind == _NLMSG_ERROR:
            return found, -int(_ERRNO.unpack_from(body)[0]) if len(body) >= _ERRNO.size else errno.EPROTO
        if kind == _SOCK_DIAG_BY_FAMILY and len(body) >= _UNIX_MESSAGE.size:
            found.append(_unix_socket(body))
        offset += max(_HEADER.size, (length + 3) & ~3)
    return found, None


def _socket_name(name: bytes) -> str:
    """A path, which may have a zero byte behind it, or with ``@`` before it an abstract name (unix(7))."""
    abstract = name.startswith(b"\0")
    text = name.strip(b"\0").replace(b"\0", b"@").decode("utf-8", "replace")
    return f"@{text}" if abstract and text else text


def _unix_socket(body: bytes) -> UnixSocket:
    inode = _UNIX_MESSAGE.unpack_from(body)[4]
    peer, name = 0, b""
    offset = _UNIX_MESSAGE.size
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        value = body[offset + 4 : offset + length]
        if kind == _ATTRIBUTE_PEER and len(value) >= 4:
            (peer,) = struct.unpack_from("=I", value)
        elif kind == _ATTRIBUTE_NAME:
            name = value
        offset += max(4, (length + 3) & ~3)
    return UnixSocket(inode, peer, _socket_name(name))
