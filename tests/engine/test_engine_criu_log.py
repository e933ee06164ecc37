"""CRIU's logs are turned into a cause and a fix."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from streamhop.engine.criu_failures import KNOWN_FAILURES
from streamhop.engine.criu_log import (
    LOG_BYTES_MAX,
    REASON_CHARACTERS_MAX,
    UNKNOWN_FIX,
    explain,
    explain_file,
    explain_output,
    known_failure,
)

HEAD = """\
(00.000041) Version: 4.2 (gitid 0)
(00.000063) Running on edge-a Linux 6.18.0 #1 SMP x86_64
(00.000412) Parsing config file /run/x/criu.conf
(00.000500) rlimit: RLIMIT_NOFILE unlimited for self
(00.003241) Error (criu/rlimit.c:21): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
"""
DUMP_TAIL = """\
(00.021090) ----------------------------------------
(00.021095) Error (criu/cr-dump.c:1698): Dump files (pid: 812) failed with -1
(00.021120) Waiting for 812 to trap
(00.030001) Unfreezing tasks into 2
(00.030400) Error (criu/cr-dump.c:2128): Dumping FAILED.
"""
RESTORE_TAIL = """\
(00.084300) Error (criu/cr-restore.c:1258): 33 exited, status=1
(00.084400) Error (criu/cr-restore.c:2324): Restoring FAILED.
"""

DUMPS = {
    "io-uring": "(00.021010) Error (criu/proc_parse.c:631): Can't handle non-regular mapping on 812's map 7f0a "
    "anon_inode:[io_uring]",
    "socket-options": "(00.118198) Error (criu/sockets.c:628): sockets: Can't get 1:16 opt: Operation not supported",
    "mptcp": "(00.026522) Error (criu/sk-inet.c:130): inet: Unsupported proto 262 for socket 2f9bc5",
    "socket-protocol": "(00.026522) Error (criu/sockets.c:758): sockets: BUG! Unknown socket collected (family 40)",
    "tcp-in-flight": "(00.604758) Error (criu/sk-inet.c:185): inet: In-flight connection (l) for 22734",
    "tcp-connected": "(00.685912) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using "
    "--tcp-established option.",
    "external-unix-socket": "(00.045102) Error (criu/sk-unix.c:874): unix: External socket is used. Consider using "
    "--ext-unix-sk option.",
    "file-locks": "(00.016900) Error (criu/file-lock.c:110): Some file locks are hold by dumping tasks! You can try "
    "--file-locks to dump them.",
    "ghost-file": "(02.580327) Error (criu/files-reg.c:1031): Can't dump ghost file /tmp/tcFhOS3I of 16777216 size, "
    "increase limit",
    "unsupported-descriptor": "(00.051001) Error (criu/files-ext.c:98): Can't dump file 7 of that type [20600] "
    "(chr 10:229)",
    "mapped-device": "(00.021010) Error (criu/proc_parse.c:631): Can't handle non-regular mapping on 812's map 7f0a000",
    "watched-file": "(00.067971) Error (criu/fsnotify.c:284): fsnotify: \tCan't dump that handle",
    "terminal": "(00.060017) Error (criu/tty.c:1830): tty: Found dangling tty with sid 20845 pgid 20845 (pts) on peer "
    "fd 0.",
    "outside-mount": "(00.038120) Error (criu/files-reg.c:1790): Can't lookup mount=25 for fd=3 path=/var/log/host.log",
    "rlimit": "(00.012000) Error (criu/cr-dump.c:340): Can't get rlimit 0: Operation not permitted",
    "freezer": "(10.000432) Error (criu/seize.c:635): Unable to freeze cgroup /docker/0a1b (100 x 100ms attempts, "
    "timeout: 10s)",
    "seccomp-suspend": "(00.009210) Error (compel/src/lib/ptrace.c:27): suspending seccomp failed: Operation not "
    "permitted",
    "traced": "(00.103098) Error (compel/src/lib/infect.c:261): Unseizable non-zombie 15481 found, state S, err -1/10",
    "cpu-state": "(00.040100) Error (compel/arch/x86/src/lib/infect.c:424): Can't set FPU registers for 306: Bad "
    "address",
    "nested-namespace": "(00.022100) Error (criu/namespaces.c:460): Can't dump nested pid namespace for 9112",
    "session": "(00.061200) Error (criu/cr-dump.c:1681): A session leader of 9021(34) is outside of its pid namespace",
    "security-module": "(00.022893) Error (criu/lsm.c:39): lsm: err scanfing: Invalid argument",
    "network-lock": "(00.332832) Error (criu/net.c:3104): net: Unable to lock network: iptables-restore: "
    "invalid option",
    "mount": "(00.009376) Error (criu/mount.c:753): mnt: 98:./dev/console doesn't have a proper root mount",
    "cgroup": "(00.010201) Error (criu/cgroup.c:686): cg: controller misc not found",
    "vdso": "(00.008100) Error (criu/vdso.c:343): vdso: Can't find vDSO/VVAR bounds",
    "no-space": "(03.104450) Error (criu/image.c:707): Can't write 4096 bytes: No space left on device",
}
"""One line that CRIU writes as a dump fails, for each row of the table that is about dumps."""

RESTORES = {
    "file-changed": "(00.084120)      1: Error (criu/files-reg.c:2175): File usr/bin/app has bad size 9 (expect 12)",
    "missing-file": "(00.084120)      7: Error (criu/files-reg.c:2353): Can't open file srv/db on restore: No such file"
    " or directory",
    "cpu": "(00.004100) Error (criu/arch/x86/cpu.c:235): cpu: CPU instruction capabilities do not match run time",
    "seccomp": "(00.115900) pie: 12: Error (criu/pie/restorer.c:700): seccomp: Can't install filter: -22",
    "pid-taken": "(00.116595) Error (criu/cr-restore.c:1230): Can't fork for 15047: File exists",
    "address": "(00.093975)      8: Error (soccr/soccr.c:497): Can't bind inet socket back: Cannot assign requested "
    "address",
    "route": "(00.093975)      8: Error (soccr/soccr.c:560): Can't connect back: Network is unreachable",
    "images": "(00.003001) Error (criu/image.c:563): Magic doesn't match for core-1.img",
    "no-memory": "(00.018574) pie: 828: Error (criu/pie/restorer.c:1518): Can't restore 0x7f1164021000 mapping with "
    "0xfffffffffffffff4",
}
"""The same of restores."""

OUTPUTS = {
    "criu-missing": 'level=error msg="exec: \\"criu\\": executable file not found in $PATH"',
    "container-gone": "container does not exist",
    "untold": "criu failed: type NOTIFY errno 0\nlog file: /run/runc/web/criu.work/dump.log",
}
"""What runc prints by itself."""

LOGS = [(name, HEAD + line + "\n" + DUMP_TAIL) for name, line in DUMPS.items()]
LOGS += [(name, HEAD + line + "\n" + RESTORE_TAIL) for name, line in RESTORES.items()]


@pytest.mark.parametrize(("name", "log"), LOGS, ids=[name for name, _ in LOGS])
def test_each_known_failure_is_told_by_its_cause_and_by_crius_own_words(name: str, log: str) -> None:
    row = next(row for row in KNOWN_FAILURES if row.id == name)
    reason, fix = explain(log)
    assert reason.startswith(f"{row.cause}; ")
    assert len(reason) > len(row.cause) + 10
    assert "FAILED" not in reason
    assert fix.startswith(row.fix)
    assert all(issue.split()[0] in ("criu", "runc", "podman", "moby") for issue in row.issues)
    assert not row.issues or row.issues[0] in fix


@pytest.mark.parametrize(("name", "output"), OUTPUTS.items(), ids=list(OUTPUTS))
def test_what_runc_says_by_itself_is_explained_too(name: str, output: str) -> None:
    row = next(row for row in KNOWN_FAILURES if row.id == name)
    reason, fix = explain_output(output)
    assert reason.startswith(row.cause)
    assert fix.startswith(row.fix)


def test_every_row_has_a_log_that_it_explains() -> None:
    assert {row.id for row in KNOWN_FAILURES} == {*DUMPS, *RESTORES, *OUTPUTS}
    assert len({row.id for row in KNOWN_FAILURES}) == len(KNOWN_FAILURES) >= 15


def test_a_known_error_wins_over_an_unknown_one_before_it() -> None:
    log = "(00.021003) Error (criu/x.c:1): the sky is falling\n" + DUMPS["io-uring"]
    reason, fix = explain(log)
    assert "io_uring, which CRIU cannot dump; the sky is falling" in reason
    assert "application's settings" in fix


def test_an_unknown_error_is_told_in_crius_words() -> None:
    assert explain("(00.1) Error (criu/x.c:1): the sky is falling\n" + DUMP_TAIL) == ("the sky is falling", UNKNOWN_FIX)
    assert explain_output("runc: the sky is falling") == ("runc: the sky is falling", "")


def test_a_log_with_nothing_but_the_end_still_gives_a_reason() -> None:
    assert explain("(00.1) Error (criu/cr-dump.c:2111): Dumping FAILED.\n") == ("Dumping FAILED.", UNKNOWN_FIX)


@pytest.mark.parametrize("text", ["", "(00.000100) all is well\n", "Error without a place\n"])
def test_without_an_error_line_there_is_no_reason(text: str) -> None:
    assert explain(text) == ("", UNKNOWN_FIX)


def test_an_error_repeated_is_told_once_and_the_text_is_bounded() -> None:
    line = "(00.000001) Error (criu/x.c:1): " + "y" * 5000 + "\n"
    reason, _ = explain(line * 100)
    assert set(reason) == {"y"}
    assert len(reason) <= REASON_CHARACTERS_MAX


@pytest.mark.parametrize("word", ["ptrace", "Can't open file ", "cpu", "No mapping for ", "container ", "Pid "])
def test_a_log_made_to_be_slow_to_search_is_not(word: str) -> None:
    """A restore's log quotes what the peer has sent."""
    lines = [f"(00.000001) Error (criu/x.c:{n}): {n}{word * 2000}" for n in range(200)]
    began = time.process_time()
    explain("\n".join(lines))
    assert time.process_time() - began < 2


def test_reads_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text("(00.000001) noise\n" * (LOG_BYTES_MAX // 10) + RESTORES["file-changed"] + "\n")
    assert "File usr/bin/app has bad size 9 (expect 12)" in explain_file(log)[0]
    assert explain_file(tmp_path / "missing.log") == ("", UNKNOWN_FIX)


def test_a_line_that_nobody_knows_matches_no_row() -> None:
    assert known_failure("all is well") is None
