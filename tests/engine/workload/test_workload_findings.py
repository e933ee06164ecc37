"""What a container's processes do that a dump cannot take along, and what they do that it can."""

from __future__ import annotations

import os
import stat
from dataclasses import replace

import pytest
from workload_support import (
    DEVPTS,
    MOUNTS,
    MQUEUE,
    NAMESPACES,
    ROOT,
    anonymous,
    character,
    found_in,
    ids,
    process,
    regular,
    socket_of,
)

from streamhop.engine.workload.files import GHOST_BYTES_MAX
from streamhop.engine.workload.proc_text import MountLine, UnixSocket
from streamhop.engine.workload.views import Descriptor, File, Process

HARMLESS = [
    regular("/usr/bin/app"),
    File("/srv", stat.S_IFDIR | 0o755, device=ROOT.device),
    File("pipe:[123]", stat.S_IFIFO | 0o600),
    File("net:[4026531840]", stat.S_IFREG | 0o444),
    File("pid_for_children:[4026531836]", stat.S_IFREG | 0o444),
    File("pidfd:[77]", stat.S_IFREG | 0o600),
    File("/gone", None),
    regular("/memfd:heap (deleted)", links=0, allocated_bytes=1 << 30),
    regular("/dev/zero (deleted)", links=0, allocated_bytes=1 << 30),
    regular("/SYSV00000000 (deleted)", links=0),
    regular("/tmp/small (deleted)", links=0, allocated_bytes=GHOST_BYTES_MAX),
    regular("/tmp/linked-elsewhere (deleted)", links=1, allocated_bytes=1 << 30),
    *(anonymous(name) for name in ("[eventfd]", "[eventpoll]", "inotify", "[fanotify]", "[signalfd]", "[timerfd]")),
    *(character(f"/dev/{name}", 1, minor) for name, minor in {"null": 3, "zero": 5, "full": 7, "random": 8}.items()),
    character("/dev/urandom", 1, 9),
    character("/dev/tty", 5, 0),
    character("/dev/ptmx", 5, 2),
    character("/dev/pts/0", 136, 0, device=DEVPTS.device),
]


@pytest.mark.parametrize("file", HARMLESS, ids=lambda file: file.label)
def test_what_criu_dumps_is_no_finding(file: File) -> None:
    assert found_in(process(file)) == []


@pytest.mark.parametrize(
    "protocol", ["TCP", "TCPv6", "UDP", "UDP-Lite", "RAW", "PINGv6", "UNIX", "UNIX-STREAM", "NETLINK"]
)
def test_sockets_that_criu_dumps_are_no_finding(protocol: str) -> None:
    assert found_in(process(socket_of(protocol))) == []


REFUSED = [
    (anonymous("[io_uring]"), "workload.io-uring", "an io_uring"),
    (anonymous("[perf_event]"), "workload.descriptor", "perf_event_open"),
    (anonymous("[userfaultfd]"), "workload.descriptor", "userfaultfd"),
    (anonymous("kvm-vm"), "workload.descriptor", "KVM"),
    (anonymous("bpf-prog"), "workload.descriptor", "BPF program"),
    (anonymous("bpf-map"), "workload.descriptor", "BPF map"),
    (anonymous("seccomp notify"), "workload.descriptor", "seccomp notify"),
    (anonymous("landlock-ruleset"), "workload.descriptor", "Landlock"),
    (anonymous("[of-the-future]"), "workload.descriptor", "of-the-future"),
    (character("/dev/fuse", 10, 229), "workload.device", "/dev/fuse (10:229)"),
    (character("/dev/kvm", 10, 232), "workload.device", "/dev/kvm (10:232)"),
    (character("/dev/mem", 1, 1), "workload.device", "/dev/mem"),
    (character("/dev/kmsg", 1, 11), "workload.device", "/dev/kmsg"),
    (character("/dev/tty1", 4, 1), "workload.device", "/dev/tty1"),
    (
        File("/dev/sda", stat.S_IFBLK | 0o660, special=os.makedev(8, 0)),
        "workload.device",
        "block device /dev/sda (8:0)",
    ),
    (character("/dev/pts/7", 136, 7, device=0x999), "workload.terminal", "/dev/pts/7"),
    (regular("/secretmem (deleted)", links=0), "workload.descriptor", "secret memory"),
    (regular("/dmabuf:"), "workload.mapped-device", "dma-buf"),
    (File("strange:[1]", stat.S_IFREG | 0o600), "workload.descriptor", "strange:[1]"),
    (File("/jobs", stat.S_IFREG | 0o600, device=MQUEUE.device), "workload.descriptor", "message queue /jobs"),
    (
        regular("/var/log/a (deleted)", links=0, allocated_bytes=GHOST_BYTES_MAX + 512),
        "workload.ghost-file",
        "/var/log/a ",
    ),
]


@pytest.mark.parametrize(("file", "kind", "named"), REFUSED, ids=[f"{case[0].label}" for case in REFUSED])
def test_a_descriptor_that_cannot_be_made_again(file: File, kind: str, named: str) -> None:
    (finding,) = found_in(process(Descriptor(17, file)))
    assert finding.id == kind
    assert finding.refuses
    assert named in finding.reason
    assert "process 1 (app): descriptor 17" in finding.reason
    assert finding.fix
    assert finding.why
    assert finding.reference


@pytest.mark.parametrize("protocol", ["MPTCP", "MPTCPv6", "SCTP", "AF_VSOCK", "ALG", "XDP", "CAN_RAW", "SMC"])
def test_a_socket_that_cannot_be_made_again(protocol: str) -> None:
    (finding,) = found_in(process(socket_of(protocol)))
    assert finding.id == "workload.socket"
    assert ("multipathtcp=0" in finding.fix) == protocol.startswith("MPTCP")


def test_a_file_on_no_mount_of_the_containers_is_the_hosts() -> None:
    inside, outside = Descriptor(3, regular("/etc/passwd"), mount=100), Descriptor(4, regular("/etc/shadow"), mount=7)
    (finding,) = found_in(process(inside, outside))
    assert finding.id == "workload.outside-file"
    assert "/etc/shadow" in finding.reason
    assert ids(process(replace(outside, mount=None))) == []
    assert ids(process(outside, mounts=())) == [], "where the mounts could not be read nothing is said of them"


def test_a_file_of_the_parents_mounts_is_the_containers() -> None:
    """A sandbox in a mount namespace of its own, whose mounts all have other numbers."""
    inherited = Descriptor(3, regular("/etc/passwd"), mount=ROOT.id)
    own = MountLine(900, ROOT.device, "/", "/", "overlay")
    sandbox = process(inherited, pid=2, namespaces=NAMESPACES | {"mnt": 99}, mounts=(own,))
    assert ids(process(), sandbox) == []


MAPPED = [
    (anonymous("[io_uring]"), "workload.io-uring"),
    (anonymous("[perf_event]"), "workload.mapping"),
    (anonymous("[eventfd]"), "workload.mapping"),
    (File("[uprobes]", None), "workload.mapping"),
    (File("/secretmem (deleted)", stat.S_IFREG), "workload.mapping"),
    (character("/dev/dri/card0", 226, 0), "workload.mapped-device"),
    (regular("/tmp/big (deleted)", links=0, allocated_bytes=GHOST_BYTES_MAX * 2), "workload.ghost-file"),
]


@pytest.mark.parametrize(("file", "kind"), MAPPED, ids=[case[0].label for case in MAPPED])
def test_a_mapping_that_cannot_be_made_again(file: File, kind: str) -> None:
    (finding,) = found_in(process(mappings=(file,)))
    assert finding.id == kind
    assert finding.refuses


@pytest.mark.parametrize(
    "file",
    [
        File("[heap]", None),
        File("[vdso]", None),
        File("[anon:glibc malloc]", None),
        regular("/usr/lib/libc.so.6"),
        regular("/usr/lib/old.so (deleted)", links=0, allocated_bytes=4096),
        character("/dev/zero", 1, 5),
        regular("/[aio] (deleted)", links=0),
        regular("/anon_hugepage (deleted)", links=0, allocated_bytes=1 << 30),
        File("socket:[12]", stat.S_IFSOCK),
    ],
    ids=lambda file: file.label,
)
def test_ordinary_mappings_are_no_finding(file: File) -> None:
    assert ids(process(mappings=(file,))) == []


# -- unix sockets ------------------------------------------------------------------------------------------------------


def test_a_connection_to_outside_is_found_by_its_peer() -> None:
    sockets = {
        10: UnixSocket(10, 11),
        11: UnixSocket(11, 10, "/run/app.sock"),
        20: UnixSocket(20, 999),
        999: UnixSocket(999, 20, "/var/run/docker.sock"),
        30: UnixSocket(30, 0),
    }
    held = [replace(socket_of("UNIX-STREAM", inode), number=inode) for inode in (10, 11, 20, 30, 40)]
    (finding,) = found_in(process(*held), unix_sockets=sockets)
    assert finding.id == "workload.unix-peer"
    assert "descriptor 20" in finding.reason
    assert "/var/run/docker.sock" in finding.reason


def test_a_peer_that_was_started_beside_the_first_process_is_told_by_that_alone() -> None:
    """A health check that asks by a unix socket is gone in a moment."""
    sockets = {10: UnixSocket(10, 11), 11: UnixSocket(11, 10)}
    one, other = process(socket_of("UNIX-STREAM", 10)), process(socket_of("UNIX-STREAM", 11), pid=30)
    assert ids(one, beside=[other], unix_sockets=sockets) == ["workload.exec"]
    assert ids(one, unix_sockets=sockets) == ["workload.unix-peer"]


def test_where_not_everything_could_be_looked_at_no_peer_is_called_an_outsider() -> None:
    one = process(socket_of("UNIX-STREAM", 10))
    assert ids(one, unix_sockets={10: UnixSocket(10, 11)}, unseen=["descriptors"]) == ["workload.unseen"]


def test_a_peer_in_another_network_namespace_of_the_container_is_inside() -> None:
    one, other = socket_of("UNIX-STREAM", 10), socket_of("UNIX-STREAM", 500)
    assert ids(process(one), process(other, pid=2), unix_sockets={10: UnixSocket(10, 500)}) == []


def test_where_sockets_could_not_be_asked_for_nothing_is_said_of_them() -> None:
    assert ids(process(socket_of("UNIX-STREAM", 20)), unix_sockets=None) == []


# -- around the processes ----------------------------------------------------------------------------------------------


def nested(kind: str) -> Process:
    return process(pid=9, name="sandbox", namespaces=NAMESPACES | {kind: 99})


@pytest.mark.parametrize("kind", ["pid", "user", "uts", "ipc", "time"])
def test_a_nested_namespace_that_criu_does_not_dump(kind: str) -> None:
    (finding,) = found_in(process(), nested(kind))
    assert finding.id == "workload.namespace"
    assert "process 9 (sandbox)" in finding.reason


@pytest.mark.parametrize("kind", ["mnt", "net"])
def test_a_nested_namespace_that_criu_dumps(kind: str) -> None:
    assert ids(process(), nested(kind)) == []


def test_a_namespace_that_could_not_be_read_is_none_of_its_own() -> None:
    assert ids(process(), process(pid=2, namespaces={})) == []


def test_a_traced_process_and_a_session_from_outside() -> None:
    assert ids(process(), process(pid=2, tracer=555)) == ["workload.traced"]
    assert ids(process(), process(pid=2, session=0)) == ["workload.session"]
    assert ids(process(), process(pid=2, session=-1)) == [], "a kernel that does not tell sessions in the container"


def mount(place: str, kind: str) -> MountLine:
    return MountLine(200, 0x77, "/", place, kind)


@pytest.mark.parametrize("kind", ["fuse", "fuse.sshfs", "nfs4", "ext4", "btrfs", "hugetlbfs", "9p"])
def test_a_mount_that_criu_does_not_know(kind: str) -> None:
    with_it = process(mounts=(*MOUNTS, mount("/mnt", kind)))
    (finding,) = found_in(with_it, process(pid=2, mounts=with_it.mounts))
    assert finding.id == "workload.mount"
    assert f"{kind} at /mnt" in finding.reason
    assert ids(with_it, known_mounts=frozenset({"/mnt"})) == [], "Docker mounts it at the target, too"


@pytest.mark.parametrize("kind", ["proc", "sysfs", "tmpfs", "cgroup2", "mqueue", "overlay"])
def test_mounts_that_every_container_has(kind: str) -> None:
    assert ids(process(mounts=(*MOUNTS, mount("/x", kind)))) == []


def test_a_root_of_any_type_is_not_for_criu_to_mount() -> None:
    assert ids(process(mounts=(mount("/", "xfs"),))) == []


# -- how it is told ----------------------------------------------------------------------------------------------------


def test_the_same_in_many_processes_is_one_finding() -> None:
    workers = [process(Descriptor(n, anonymous("[io_uring]")), pid=n, name="worker") for n in range(1, 9)]
    (finding,) = found_in(*workers)
    assert "processes 1 (worker), 2 (worker), 3 (worker) and 5 more" in finding.reason
    assert "descriptor 1, descriptor 2, descriptor 3 and 5 more" in finding.reason


def test_names_cannot_steer_a_terminal() -> None:
    """A container chooses the names of its processes and files."""
    evil = "\x1b]0;owned\x07" + "x" * 500
    hostile = process(regular(f"/{evil} (deleted)", links=0, allocated_bytes=1 << 30), name=evil)
    hostile = replace(hostile, mounts=(mount(f"/{evil}", evil), *MOUNTS), mappings=(anonymous(evil),))
    found = found_in(hostile, beside=[process(pid=7, name=evil)], unseen=[evil])
    assert len(found) == 5
    assert all(finding.reason.isprintable() and len(finding.reason) < 700 for finding in found)


def test_what_is_started_beside_the_first_process_is_only_warned_of() -> None:
    (finding,) = found_in(process(), beside=[process(pid=n, name="psql") for n in range(30, 35)])
    assert finding.id == "workload.exec"
    assert not finding.refuses
    assert "30 (psql), 31 (psql), 32 (psql) and 2 more" in finding.reason


def test_what_could_not_be_looked_at_is_told() -> None:
    (finding,) = found_in(process(), unseen=["descriptors: Permission denied"])
    assert finding.id == "workload.unseen"
    assert not finding.refuses


def test_a_container_that_is_gone_has_nothing_in_the_way() -> None:
    assert found_in() == []
