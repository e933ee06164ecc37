"""What the kernel's files say; whatever else they hold is passed over."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhop.engine.workload.proc_text import (
    MappingLine,
    MountLine,
    UnixSocket,
    mount_id_in,
    mount_lines,
    named_mappings,
    number_in,
    status_fields,
    unix_answer,
    unix_question,
)

STATUS = "Name:\tredis:server\nState:\tS (sleeping)\nTracerPid:\t0\nNSpid:\t4001\t1\nNSsid:\t4001\t1\n"

MAPS = """\
55d0c0a00000-55d0c0a21000 r--p 00000000 00:31 131                        /usr/bin/redis-check-rdb
55d0c0a21000-55d0c0b00000 r-xp 00021000 00:31 131                        /usr/bin/redis-check-rdb
55d0c1f00000-55d0c1f21000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000001000 rw-s 00000000 00:0e 2052                       anon_inode:[io_uring]
7f0000001000-7f0000002000 rw-p 00000000 00:00 0\x20
7f0000002000-7f0000003000 rw-s 00000000 00:05 7                          /dev/with\\040space\\012 (deleted)
00400000-00401000 r-xp 00000000 08:01 9                                  /static
this is no mapping
"""

MOUNTINFO = """\
1201 1100 0:331 / / rw,relatime master:91 - overlay overlay rw,lowerdir=/l,upperdir=/u
1202 1201 0:334 / /proc rw,nosuid - proc proc rw
1210 1201 8:1 /var/lib/docker/containers/x/hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw
1211 1201 0:44 / /mnt/a\\040b rw shared:3 master:2 - fuse.sshfs host:/ rw
broken line
1212 1201 x:y / /x rw - tmpfs tmpfs rw
"""


def test_status() -> None:
    fields = status_fields(STATUS)
    assert fields["Name"] == "redis:server"
    assert [number_in(fields[name]) for name in ("TracerPid", "NSpid", "NSsid")] == [0, 1, 1]
    assert number_in(None) == number_in("") == number_in("x") == number_in("\u0661") == 0


def test_named_mappings_of_each_file_once() -> None:
    assert list(named_mappings(MAPS)) == [
        MappingLine("55d0c0a00000-55d0c0a21000", "/usr/bin/redis-check-rdb", "00:31", 131),
        MappingLine("55d0c1f00000-55d0c1f21000", "[heap]", "00:00", 0),
        MappingLine("7f0000000000-7f0000001000", "anon_inode:[io_uring]", "00:0e", 2052),
        MappingLine("7f0000002000-7f0000003000", "/dev/with space\n (deleted)", "00:05", 7),
        MappingLine("400000-401000", "/static", "08:01", 9),
    ]


def test_mounts() -> None:
    found = mount_lines(MOUNTINFO)
    assert found[0] == MountLine(1201, os.makedev(0, 331), "/", "/", "overlay")
    assert found[2] == MountLine(1210, os.makedev(8, 1), "/var/lib/docker/containers/x/hosts", "/etc/hosts", "ext4")
    assert (found[3].place, found[3].kind) == ("/mnt/a b", "fuse.sshfs")
    assert len(found) == 4


def test_the_mount_of_a_descriptor() -> None:
    assert mount_id_in("pos:\t0\nflags:\t0100000\nmnt_id:\t1201\nino:\t5\n") == 1201
    assert mount_id_in("pos:\t0\n") is mount_id_in("mnt_id:\tx\n") is None


def message(kind: int, body: bytes) -> bytes:
    length = 16 + len(body)
    return struct.pack("=IHHII", length, kind, 2, 1, 0) + body + bytes(-length % 4)


def attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def diag(inode: int, *attributes: bytes) -> bytes:
    return message(20, struct.pack("=BBBBIII", 1, 1, 1, 0, inode, 0, 0) + b"".join(attributes))


def test_unix_sockets() -> None:
    connected = diag(10, attribute(0, b"\0abstract"), attribute(2, struct.pack("=I", 11)))
    named = diag(12, attribute(0, b"/run/x.sock\0"), attribute(4, bytes(8)))
    sockets, ended = unix_answer(connected + named)
    assert sockets == [UnixSocket(10, 11, "@abstract"), UnixSocket(12, 0, "/run/x.sock")]
    assert ended is None
    assert unix_answer(named + message(3, bytes(4))) == ([UnixSocket(12, 0, "/run/x.sock")], 0)
    assert unix_answer(message(2, struct.pack("=i", -errno.ENOENT))) == ([], errno.ENOENT)
    assert unix_answer(message(2, b"")) == ([], errno.EPROTO)
    assert len(unix_question()) == 40


@given(st.binary(max_size=400))
def test_whatever_the_kernel_says_is_read_to_an_end(reply: bytes) -> None:
    unix_answer(reply)
    unix_answer(message(20, reply))


@pytest.mark.parametrize("reader", [status_fields, lambda t: list(named_mappings(t)), mount_lines, mount_id_in])
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_whatever_a_file_holds_is_read_to_an_end(reader, text: str) -> None:  # type: ignore[no-untyped-def]
    reader(text)
    reader(f"1 2 {text} - {text}\n{text} r--p 0 0:0 1 x")
