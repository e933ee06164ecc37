"""P12: what a peer's process images claim is held against the configuration that this host's Docker wrote."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.process_images import (
    ALLOW,
    CGROUP,
    ERRNO,
    GRANTED,
    NARROW,
    WIDE,
    Images,
    config,
    mount,
    program,
    regular,
    thread,
)

from streamhop.content.process_images import Admitted, ImagesRefusedError, admit_images, check_images
from streamhop.content.process_images.admission import REFUSALS_MAX
from streamhop.content.process_images.records import INVENTORY, MAGIC, only_record
from streamhop.content.process_images.syscall_filters import allows_what_is_denied, denied
from streamhop_protocol.errors import MalformedError

Change = Callable[[Images], object]
SYS_ADMIN = 1 << 21


def refusals(images: Images, tmp_path: Path, changed: dict[str, Any] | None = None) -> str:
    """All that is refused, one a line."""
    admitted = Admitted.from_config(changed or config(), is_here=lambda _: True)
    return "\n".join(admit_images(images.write(tmp_path / "image"), admitted))


def test_an_ordinary_container_may_be_restored(tmp_path: Path) -> None:
    assert refusals(Images(), tmp_path) == ""


def end_the_child(images: Images, state: int = 2) -> None:
    """As CRIU writes a process that has ended and that nobody has waited for: without the number of its one thread."""
    images.files["pstree"][1][5] = [0xFFFFFFFF]
    images.files["core-7"] = [{1: images.files["core-7"][0][1], 3: images.files["core-7"][0][3] | {1: state}}]
    images.raw.pop("mm-7.img")
    images.files.pop("ids-7")


def test_a_process_that_nobody_has_waited_for_may_be_restored(tmp_path: Path) -> None:
    images = Images()
    end_the_child(images)
    assert refusals(images, tmp_path) == ""


def put(fields: dict[int, Any], number: int, value: object) -> None:
    fields[number] = value


REFUSED: list[tuple[str, Change, str]] = [
    ("inheritable", lambda i: put(i.creds, 9, [SYS_ADMIN, 0]), "inheritable capabilities 0x200000"),
    ("permitted", lambda i: put(i.creds, 10, [GRANTED | SYS_ADMIN, 0]), "permitted"),
    ("effective", lambda i: put(i.creds, 11, [GRANTED, 1]), "effective capabilities 0x100000000"),
    ("bounding", lambda i: put(i.creds, 12, [0xFFFFFFFF, 0x1FF]), "bounding"),
    ("ambient", lambda i: put(i.creds, 19, [SYS_ADMIN, 0]), "ambient"),
    ("packed numbers", lambda i: put(i.creds, 11, struct.pack("BBBBB", 0x80, 0x80, 0x80, 0x01, 0)), "effective"),
    ("another thread", lambda i: put(i.files["core-5"][0][5][10], 11, [SYS_ADMIN, 0]), "effective"),
    ("a child", lambda i: put(i.files["core-7"][0][5][10], 11, [SYS_ADMIN, 0]), "effective"),
    ("LSM profile", lambda i: put(i.creds, 15, "unconfined_t"), "security label"),
    ("no filter", lambda i: put(i.files["core-1"][0][5], 11, 0), "no system call filter"),
    ("strict mode", lambda i: put(i.files["core-7"][0][5], 11, 1), "no system call filter"),
    ("wide filter", lambda i: put(i.files["seccomp"][0], 1, [{1: WIDE, 3: 1}]), "filter that lets"),
    ("filter not for all threads", lambda i: put(i.files["seccomp"][0], 1, [{1: NARROW, 3: 0}]), "filter for a thread"),
    ("real time", lambda i: put(i.files["core-1"][0][5], 4, 1), "priority"),
    ("nice", lambda i: put(i.files["core-1"][0][5], 3, 39), "priority"),
    ("OOM score", lambda i: put(i.files["core-1"][0][3], 14, -900), "OOM score adjustment of -900"),
    ("rtprio", lambda i: put(i.files["core-1"][0][3][8][1][14], 2, 99), "resource limit 14"),
    ("host's PIDs", lambda i: [put(i.files[f"ids-{n}"][0], 5, 1) for n in (1, 7)], "host's namespace"),
    ("host's network", lambda i: [put(i.files[f"ids-{n}"][0], 6, 2) for n in (1, 7)], "host's namespace"),
    ("host's mounts", lambda i: [put(i.files[f"ids-{n}"][0], 9, 0) for n in (1, 7)], "host's namespace"),
    ("nested namespace", lambda i: put(i.files["ids-7"][0], 9, 99), "namespaces inside"),
    ("user namespace", lambda i: [put(i.files[f"ids-{n}"][0], 10, 9) for n in (1, 7)], "user namespace"),
    ("devtmpfs", lambda i: i.mounts.append(mount(3, "/dev/all")), "mount of kind 3"),
    ("a disk", lambda i: i.mounts.append(mount(16, "/mnt")), "mount of kind 16"),
    ("proc elsewhere", lambda i: i.mounts.append(mount(1, "/mnt")), "'/mnt'"),
    ("over a grant", lambda i: i.mounts.append(mount(3, "/dev")), "mount of kind 3 at '/dev'"),
    ("mount outside", lambda i: i.mounts.append(mount(5, "/dev/../../x")), "a mount at"),
    ("relative mount", lambda i: i.mounts.append(mount(5, "dev")), "a mount at"),
    ("console", lambda i: i.mounts.append(mount(6, "/dev/console")), "/dev/console"),
    ("/sys writable", lambda i: put(i.mounts[5], 5, 2), "at '/sys'"),
    ("/proc/sys writable", lambda i: put(i.mounts[2], 5, 2), "/proc/sys"),
    ("/proc/sys uncovered", lambda i: i.mounts.pop(2), "/proc/sys without its cover"),
    ("/proc/kcore uncovered", lambda i: i.mounts.pop(3), "/proc/kcore without its cover"),
    ("/sys/firmware uncovered", lambda i: i.mounts.pop(6), "/sys/firmware without its cover"),
    ("external name", lambda i: put(i.mounts[9], 18, "/var/run/docker.sock"), "/etc/hosts"),
    ("made-up external", lambda i: i.mounts.append(mount(0, "/mnt", key="CRIU:AUTOGENERATED")), "'/mnt'"),
    ("block device", lambda i: i.files["files"].append(regular(3, "/dev/sda", 0o60660)), "device '/dev/sda'"),
    ("character device", lambda i: i.files["files"].append(regular(3, "/dev/mem", 0o20640)), "device '/dev/mem'"),
    ("file outside", lambda i: i.files["files"].append(regular(3, "/x/../../etc/shadow", 0o100600)), "the file"),
    ("relative file", lambda i: i.files["files"].append(regular(3, "etc/shadow", 0o100600)), "the file"),
    ("file given from outside", lambda i: i.files["files"].append(regular(3, "/x", 0o100600, external=1)), "outside"),
    ("external file", lambda i: i.files["files"].append({1: 16, 2: 3, 15: {1: 3}}), "kind 16"),
    ("namespace file", lambda i: i.files["files"].append({1: 14, 2: 3, 5: {1: 3}}), "kind 14"),
    ("TUN device", lambda i: i.files["files"].append({1: 15, 2: 3, 10: {1: 3}}), "kind 15"),
    ("BPF map", lambda i: i.files["files"].append({1: 19, 2: 3, 21: {1: 3}}), "kind 19"),
    ("deleted device", lambda i: put(i.files, "ghost-file-1", [{1: 0, 2: 0, 3: 0o60660, 6: 2048}]), "deleted file"),
    ("host's root cgroup", lambda i: put(i.files["cgroup"][0][1][0][2][0], 2, "/"), "the cgroups"),
    ("cgroup outside", lambda i: put(i.files["cgroup"][0][1][0][2][0], 2, "/../.." + CGROUP), "the cgroups"),
    ("cgroup directory", lambda i: put(i.files["cgroup"][0][2][0][2][0], 1, "../../proc/sys/kernel"), "cgroup '"),
    ("cgroup below", lambda i: put(i.files["cgroup"][0][2][0][2][0], 2, [{1: "x"}]), "the cgroup '"),
    ("cgroup setting", lambda i: put(i.files["cgroup"][0][2][0][2][0], 3, [{1: "../x", 2: "|y"}]), "setting"),
    ("unknown controller", lambda i: put(i.files["cgroup"][0][1][0][2][0], 1, "devices"), "not described"),
    ("cgroup namespace", lambda i: put(i.files["cgroup"][0][1][0][2][0], 3, 1), "cgroup namespace"),
    ("CRIU's own cgroup", lambda i: put(i.files["core-5"][0][5], 16, 1), "outside of the container's cgroup"),
    ("AppArmor image", lambda i: put(i.raw, "apparmor.img", b""), "an image apparmor.img"),
    ("network rules", lambda i: put(i.raw, "nftables-9.img", b""), "an image nftables-9.img"),
    ("binfmt_misc", lambda i: put(i.raw, "binfmt-misc.img", b""), "an image binfmt-misc.img"),
    ("old credentials", lambda i: put(i.raw, "creds-1.img", b""), "an image creds-1.img"),
    ("user namespace image", lambda i: put(i.raw, "userns-9.img", b""), "an image userns-9.img"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "says"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_goes_beyond_the_configuration_is_refused(tmp_path: Path, change: Change, says: str) -> None:
    images = Images()
    change(images)
    assert says in refusals(images, tmp_path)


MALFORMED: list[tuple[str, Change]] = [
    ("core missing", lambda i: i.files.pop("core-7")),
    ("thread's core missing", lambda i: i.files.pop("core-5")),
    ("mm missing", lambda i: i.raw.pop("mm-7.img")),
    ("ids missing", lambda i: i.files.pop("ids-7")),
    ("cgroups missing", lambda i: i.files.pop("cgroup")),
    ("mounts missing", lambda i: i.files.pop("mountpoints-13")),
    ("mounts twice", lambda i: put(i.files, "mountpoints-14", i.mounts)),
    ("two roots", lambda i: put(i.files["pstree"][1], 2, 0)),
    ("no root", lambda i: put(i.files["pstree"][0], 2, 7)),
    ("threads without a leader", lambda i: put(i.files["pstree"][1], 5, [8])),
    ("no thread", lambda i: put(i.files["pstree"][1], 5, [])),
    ("ended, of two threads", lambda i: (end_the_child(i), put(i.files["pstree"][1], 5, [8, 9]))),
    ("ended, and alive", lambda i: end_the_child(i, state=1)),
    ("ended, and another's thread", lambda i: (end_the_child(i), put(i.files["pstree"][0], 5, [1, 7]))),
    ("process twice", lambda i: i.files["pstree"].append(i.files["pstree"][1])),
    ("thread of two", lambda i: put(i.files["pstree"][1], 5, [7, 5])),
    ("no process", lambda i: i.files["pstree"].clear()),
    ("other architecture", lambda i: put(i.files["core-5"][0], 1, 4)),
    ("namespaces in a core", lambda i: put(i.files["core-1"][0], 4, {5: 1})),
    ("no credentials", lambda i: i.files["core-7"][0][5].pop(10)),
    ("filter missing", lambda i: put(i.files["core-1"][0][5], 12, 1)),
    ("filters in a circle", lambda i: put(i.files["seccomp"][0], 1, [{1: NARROW, 2: 0, 3: 1}])),
    ("filter cut off", lambda i: put(i.files["seccomp"][0], 1, [{1: NARROW[:-1], 3: 1}])),
    ("old filter fields", lambda i: put(i.files["core-1"][0][3], 11, 2)),
    ("number of 33 bits", lambda i: put(i.creds, 11, [1 << 32, 0])),
    ("thread_core twice", lambda i: put(i.files["core-1"][0], 5, [thread(), thread()])),
    ("old inventory", lambda i: put(i.files["inventory"][0], 4, 0)),
    ("files given to runc", lambda i: put(i.raw, "descriptors.json", b'{"a": 1}')),
    ("NUL in a path", lambda i: i.files["files"].append(regular(3, "/x\0/../y", 0o100600))),
]


@pytest.mark.parametrize("change", [case[1] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_images_that_criu_would_not_write_are_refused(tmp_path: Path, change: Change) -> None:
    images = Images()
    change(images)
    with pytest.raises(MalformedError):
        refusals(images, tmp_path)


def test_no_new_privileges_and_the_user_are_kept(tmp_path: Path) -> None:
    changed = config()
    changed["process"] |= {"noNewPrivileges": True, "user": {"uid": 1000}, "capabilities": {}}
    found = refusals(Images(), tmp_path, changed)
    assert "new privileges" in found
    assert "users [0] instead of 1000" in found


def test_an_lsm_profile_that_the_configuration_has_must_be_there(tmp_path: Path) -> None:
    changed = config()
    changed["process"]["apparmorProfile"] = "docker-default"
    assert "'none' instead of 'docker-default'" in refusals(Images(), tmp_path, changed)


def test_what_the_configuration_grants_is_granted(tmp_path: Path) -> None:
    images, changed = Images(), config()
    images.files["core-1"][0][5] = thread(creds={15: "system_u:system_r:container_t:s0:c1,c2"}) | {4: 1}
    for name in ("core-5", "core-7"):
        images.files[name][0][5][10][15] = "system_u:system_r:container_t:s0:c1,c2"
    images.creds[11] = [GRANTED | SYS_ADMIN | 1 << 23, 0]
    images.files["files"].append(regular(3, "/dev/fuse", 0o20666))
    images.mounts.append(mount(6, "/dev/console"))
    changed["process"]["capabilities"]["bounding"] += ["CAP_SYS_ADMIN", "CAP_SYS_NICE"]
    changed["process"] |= {"terminal": True, "selinuxLabel": "system_u:system_r:container_t:s0:c3,c4"}
    changed["linux"]["devices"] = [{"path": "/dev/fuse"}]
    assert refusals(images, tmp_path, changed) == ""


def test_a_path_that_this_host_does_not_have_needs_no_cover(tmp_path: Path) -> None:
    images = Images()
    images.mounts.pop(3)
    admitted = Admitted.from_config(config(), is_here=lambda path: path != "/proc/kcore")
    assert admit_images(images.write(tmp_path / "image"), admitted) == []


def test_refusals_are_few_and_harmless_to_print(tmp_path: Path) -> None:
    images = Images()
    images.files["files"] += [regular(number, "\x1b[2J\u202e" * 100, 0o100600) for number in range(3, 5000)]
    found = refusals(images, tmp_path).splitlines()
    assert len(found) == REFUSALS_MAX
    assert all(text.isascii() and text.isprintable() and len(text) <= 120 for text in found)


@pytest.mark.parametrize("name", ["core-1", "inventory", "cgroup", "seccomp"])
def test_an_image_cut_off_anywhere_is_malformed(tmp_path: Path, name: str) -> None:
    path = Images().write(tmp_path / "image") / f"{name}.img"
    magic = INVENTORY if name == "inventory" else MAGIC[name.partition("-")[0]]
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(MalformedError):
            only_record(path, magic)


def test_the_check_before_a_restore_reads_the_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    changed = config()
    changed["linux"]["maskedPaths"] = changed["linux"]["readonlyPaths"] = []
    changed["mounts"].append({"destination": "/proc/kcore", "type": "bind", "options": ["bind"]})
    (bundle / "config.json").write_text(json.dumps(changed))
    images = Images()
    for place in (6, 3, 2):
        images.mounts.pop(place)
    check_images(images.write(tmp_path / "good"), bundle)
    images.creds[12] = [0xFFFFFFFF, 0]
    with pytest.raises(ImagesRefusedError, match="bounding"):
        check_images(images.write(tmp_path / "bad"), bundle)


# -- system call filters -----------------------------------------------------------------------------------------------

PROFILE = config()["linux"]["seccomp"]
LOAD_NUMBER, LOAD_ARCHITECTURE, LOAD_ARGUMENT = (0x20, 0, 0, 0), (0x20, 0, 0, 4), (0x20, 0, 0, 16)
X86_64, I386 = 0xC000003E, 0x40000003
DENY, PASS = (0x06, 0, 0, ERRNO), (0x06, 0, 0, ALLOW)


@pytest.mark.parametrize(
    ("instructions", "passes"),
    [
        ([DENY], ""),
        ([PASS], "acct"),
        ([(0x06, 0, 0, 0x7FFC0000)], "acct"),  # logged only
        ([(0x06, 0, 0, 0x7FF00000)], "acct"),  # left to a tracer, who can let it pass
        ([(0x16, 0, 0, 0)], "acct"),  # what the accumulator says
        ([LOAD_NUMBER, (0x15, 0, 1, 165), PASS, DENY], "mount"),
        ([LOAD_NUMBER, (0x15, 0, 1, 165), DENY, PASS], "acct"),
        ([LOAD_NUMBER, (0x15, 0, 3, 165), LOAD_ARGUMENT, (0x15, 0, 1, 77), PASS, DENY], "mount"),
        ([LOAD_ARCHITECTURE, (0x15, 1, 0, X86_64), PASS, DENY], "acct"),
        ([LOAD_ARCHITECTURE, (0x15, 0, 1, I386), PASS, DENY], "acct"),
        ([LOAD_ARCHITECTURE, (0x15, 0, 1, X86_64), DENY, DENY], ""),
        ([LOAD_NUMBER, (0x35, 0, 1, 0x40000000), PASS, DENY], "acct"),  # x32
        ([LOAD_NUMBER, (0x25, 1, 0, 100), PASS, DENY], "acct"),  # i386: acct is 51
        ([LOAD_NUMBER, (0x54, 0, 0, 0xFF), (0x15, 0, 1, 165), PASS, DENY], "mount"),
        ([(0x00, 0, 0, 165), (0x15, 0, 1, 165), DENY, PASS], ""),
        ([(0x60, 0, 0, 0), (0x15, 0, 1, 9), PASS, DENY], "acct"),  # from a cell of memory: unknown
        ([(0x05, 0, 0, 1), PASS, DENY], ""),
    ],
)
def test_what_a_filter_may_let_pass(instructions: list[tuple[int, int, int, int]], passes: str) -> None:
    assert allows_what_is_denied(program(*instructions), PROFILE, "x86_64") == passes


@pytest.mark.parametrize("data", [b"", b"x" * 7, program(*[DENY] * 4097), program((0x05, 0, 0, 9))])
def test_a_filter_that_is_no_program(data: bytes) -> None:
    with pytest.raises(MalformedError):
        allows_what_is_denied(data, PROFILE, "x86_64")


def test_what_a_profile_denies() -> None:
    rules = [
        {"names": ["mount", "bpf"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["unshare"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
        {"names": ["setns"], "action": "SCMP_ACT_ERRNO"},
    ]
    by_default = set(denied({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}))
    assert not by_default & {"mount", "bpf", "unshare"}
    assert {"setns", "umount2", "kexec_load"} <= by_default
    assert set(denied({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})) == {"setns"}
