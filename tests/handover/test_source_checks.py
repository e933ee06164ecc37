"""What the source finds is told all at once, and a move goes ahead only without what refuses."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from handover_support import FakeEngine, host_with

from hopsim.content import image
from streamhop.content.container_config import CreationRequest
from streamhop.engine.capabilities import HostCapabilities
from streamhop.engine.runc_state import RuncStateError
from streamhop.engine.upperdir import UpperdirError
from streamhop.findings import Finding, found
from streamhop.handover import host_checks, source_checks
from streamhop.handover.errors import NotRunningError, PreflightError
from streamhop.handover.host import Host
from streamhop.handover.journal import Journal
from streamhop.handover.source_checks import check_as_source, inspect_as_source

HERE = HostCapabilities(
    docker="28.5.2", containerd="2.1.9", runc="1.5.3", criu="4.2", kernel="6.18", architecture="x86_64",
    docker_api="1.51", image_store="classic", cgroup_version="2", soft_dirty=False,
    exact={"docker": "29.7.0", "containerd": "2.1.9", "runc": "1.5.3", "criu": "4.2", "kernel": "6.18"},
)  # fmt: skip

IO_URING = found("workload.io-uring", "an io_uring, in process 1 (app): descriptor 9", "switch it off")
OLDER = found("kernel.criu-check", "`criu check` is not content")


class Source:
    """A host with one container, of which everything is said by the test."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.capabilities = HERE
        self.workload: list[Finding] = []
        self.kernel: list[Finding] = []
        self.mounts: list[Any] = []
        self.free = 1 << 40
        self.memory = 1 << 20
        self.trouble: Exception | None = None
        self.processes = 3
        self.details: dict[str, Any] = {
            "Id": "c" * 64,
            "Name": "/web",
            "Image": image().id,
            "Driver": "overlay2",
            "State": {"Running": True, "Paused": False, "Status": "running", "Pid": 7},
            "Config": {"Image": "counter:1", "Labels": {}},
            "HostConfig": {"Runtime": "runc", "IpcMode": "private", "NetworkMode": "bridge", "RestartPolicy": None},
            "Mounts": [],
        }

        async def capabilities(_: object) -> HostCapabilities:
            return self.capabilities

        async def nothing() -> list[Finding]:
            return []

        async def described(*_: object) -> Any:
            return image()

        def upperdir(_: int) -> Path:
            if isinstance(self.trouble, UpperdirError):
                raise self.trouble
            return Path("/upper")

        def stdio(*_: object) -> list[str]:
            if isinstance(self.trouble, RuncStateError):
                raise self.trouble
            return ["/dev/null", "pipe:[1]", "pipe:[2]"]

        def workload(_: int, known: list[str]) -> list[Finding]:
            self.mounts.append(known)
            return self.workload

        request = CreationRequest("web", {"Image": image().id, "HostConfig": {}}, {"Name": "no"})
        for module, name, value in (
            (source_checks, "host_capabilities", capabilities),
            (host_checks, "kernel_findings", lambda: self.kernel),
            (host_checks, "criu_check", nothing),
            (source_checks, "container_pids", lambda _: [None] * self.processes),
            (source_checks, "resident_bytes", lambda _: self.memory),
            (source_checks, "inspect_workload", workload),
            (source_checks, "upperdir_of", upperdir),
            (source_checks, "descriptors", stdio),
            (source_checks, "describe", described),
            (source_checks, "creation_request", lambda *_, **__: request),
            (source_checks, "own_features", lambda: ("fpu", "avx")),
            (source_checks.shutil, "disk_usage", lambda _: SimpleNamespace(free=self.free)),
        ):
            monkeypatch.setattr(module, name, value)

    async def ids(self) -> list[str]:
        return [finding.id for finding in (await inspect_as_source(self.host, self.details, None)).findings]


@pytest.fixture
def source(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    return Source(host_with(FakeEngine("running"), journal, tmp_path), monkeypatch)


async def test_a_container_with_nothing_in_the_way_goes_with_what_the_target_must_know(source: Source) -> None:
    container = await check_as_source(source.host, source.details, None)
    assert container.manifest.cpu == ("fpu", "avx")
    assert container.manifest.versions["containerd"] == "2.1.9"
    assert container.manifest.memory_bytes == 1 << 20
    assert (container.warnings, container.trees) == ([], {"rootfs": Path("/upper")})


async def test_warnings_go_with_it(source: Source) -> None:
    source.kernel = [OLDER]
    container = await check_as_source(source.host, source.details, None)
    assert [finding.id for finding in container.warnings] == ["kernel.criu-check"]


async def test_all_that_refuses_is_told_at_once_and_warnings_are_no_reason(source: Source) -> None:
    source.kernel, source.workload, source.free = [OLDER], [IO_URING], 1 << 19
    source.details["HostConfig"]["Devices"] = [{"PathOnHost": "/dev/fuse"}]
    with pytest.raises(PreflightError) as caught:
        await check_as_source(source.host, source.details, None)
    error = caught.value
    assert [finding.id for finding in error.findings] == ["container.device", "workload.io-uring"]
    assert error.exit_code == 12
    assert error.as_json()["findings"][1]["fix"] == "switch it off"
    assert await source.ids() == ["container.device", "kernel.criu-check", "workload.io-uring", "host.dump-room"]


@pytest.mark.parametrize(
    ("memory", "free", "warns"),
    [
        (1 << 20, (64 << 20) - 1, True),
        (1 << 20, 64 << 20, False),
        (4 << 30, (1 << 30) - 1, True),
        (4 << 30, 1 << 30, False),
    ],
)
async def test_room_for_what_changes_is_wanted_and_not_for_all_memory(
    source: Source, memory: int, free: int, warns: bool
) -> None:
    """Memory is sent as it is dumped, and what is sent needs no room."""
    source.memory, source.free = memory, free
    container = await check_as_source(source.host, source.details, None)
    assert [finding.id for finding in container.warnings] == (["host.dump-room"] if warns else [])


async def test_a_container_that_refuses_can_still_be_asked_about(source: Source) -> None:
    source.workload = [IO_URING]
    assert (await inspect_as_source(source.host, source.details, None)).container is not None


@pytest.mark.parametrize(
    ("state", "kind"),
    [({"Running": False, "Status": "exited"}, "container.not-running"), ({"Paused": True}, "container.paused")],
)
async def test_one_that_does_not_run_is_not_looked_into(source: Source, state: dict[str, Any], kind: str) -> None:
    source.details["State"].update(state)
    check = await inspect_as_source(source.host, source.details, None)
    assert [finding.id for finding in check.findings] == [kind]
    assert check.container is None
    assert source.mounts == []
    with pytest.raises(NotRunningError):
        await check_as_source(source.host, source.details, None)


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (UpperdirError("its root is btrfs"), "container.no-upperdir"),
        (RuncStateError("no state.json"), "container.runtime"),
    ],
)
async def test_without_what_a_manifest_needs_there_is_nothing_to_offer(
    source: Source, trouble: Exception, kind: str
) -> None:
    source.trouble = trouble
    check = await inspect_as_source(source.host, source.details, None)
    assert [finding.id for finding in check.findings] == [kind]
    assert check.container is None


async def test_very_many_processes_are_not_looked_into(source: Source) -> None:
    source.processes = source_checks.PROCESSES_MAX + 1
    assert await source.ids() == ["container.too-many-processes"]
    assert source.mounts == []


async def test_a_file_that_nobody_answers_for_does_not_hold_the_check(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stat() of a file on NFS or FUSE waits for its server, and cannot be ended from outside."""
    answers = threading.Event()

    def blocked(*_: object) -> list[Finding]:
        answers.wait()
        return [IO_URING]

    monkeypatch.setattr(source_checks, "inspect_workload", blocked)
    monkeypatch.setattr(source_checks, "WORKLOAD_S_MAX", 0.05)
    source.details["HostConfig"]["Devices"] = [{"PathOnHost": "/dev/fuse"}]
    try:
        async with asyncio.timeout(10):
            assert await source.ids() == ["container.device", "workload.blocked"]
            with pytest.raises(PreflightError):
                await check_as_source(source.host, source.details, None)
    finally:
        answers.set()


async def test_a_bad_criu_is_found_by_its_version_as_it_is_printed(source: Source) -> None:
    exact = {**HERE.exact, "criu": "Version: 4.1.1-1+b2\nGitID: 0"}
    source.capabilities = HostCapabilities(**{**{f: getattr(HERE, f) for f in HERE.__slots__}, "exact": exact})
    (finding,) = (await inspect_as_source(source.host, source.details, None)).findings
    assert finding.id == "version.criu.kernel-6.16"
    assert finding.refuses


async def test_mounts_of_docker_are_known_to_be(source: Source) -> None:
    source.details["Mounts"] = [{"Type": "tmpfs", "Destination": "/scratch"}]
    await source.ids()
    assert source.mounts == [["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/scratch"]]
