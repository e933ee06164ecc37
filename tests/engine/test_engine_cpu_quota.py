"""A container's CPU quota in its cgroup: version 1 and 2, both cgroup drivers of Docker, on made-up trees."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamhop.engine.cpu_quota import CpuQuota, CpuQuotaError, CpuQuotas

ID = "ab" * 32
INIT = 42


class Tree:
    """A host with one container, below ``root``.

    :param places: path of the container's cgroup by controllers, as /proc/PID/cgroup has them; "" for version 2.
    :param mounted: what of a hierarchy is mounted, as a container sees it that is a host itself.
    """

    def __init__(self, root: Path, places: dict[str, str], mounted: str = "/") -> None:
        self.proc = root / "proc"
        (self.proc / str(INIT)).mkdir(parents=True)
        (self.proc / "self").mkdir()
        lines = [f"{number}:{name}:{path}" for number, (name, path) in enumerate(places.items())]
        (self.proc / str(INIT) / "cgroup").write_text("\n".join(lines) + "\n")
        mounts = ["20 1 0:1 / /proc rw - proc proc rw"]
        self.directories: dict[str, Path] = {}
        for name, path in places.items():
            mount = root / "cgroup" / (name or "unified")
            kind = f"cgroup cgroup rw,{name}" if name else "cgroup2 cgroup2 rw"
            mounts.append(f"30 20 0:30 {mounted} {mount} rw,relatime shared:7 - {kind}")
            own = path[: path.index("/", path.index(ID))] if "/" in path[path.index(ID) :] else path
            self.directories[name] = mount / own.removeprefix(mounted).lstrip("/")
            self.directories[name].mkdir(parents=True)
        (self.proc / "self" / "mountinfo").write_text("\n".join(mounts) + "\n")
        self.quotas = CpuQuotas(self.proc)


def version_1(root: Path, *, quota: str = "-1", together: bool = False) -> Tree:
    names = ("cpu,cpuacct",) if together else ("cpu", "cpuacct")
    tree = Tree(root, dict.fromkeys((*names, "freezer"), f"/docker/{ID}"))
    cpu, accounting = tree.directories[names[0]], tree.directories[names[-1]]
    (cpu / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (cpu / "cpu.cfs_period_us").write_text("100000\n")
    (accounting / "cpuacct.usage").write_text("2500000000\n")
    (tree.directories["freezer"] / "freezer.state").write_text("THAWED\n")
    return tree


def version_2(root: Path, *, limit: str = "max 100000", place: str = f"/system.slice/docker-{ID}.scope") -> Tree:
    tree = Tree(root, {"": place})
    (tree.directories[""] / "cpu.max").write_text(f"{limit}\n")
    (tree.directories[""] / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (tree.directories[""] / "cgroup.freeze").write_text("0\n")
    return tree


@pytest.mark.parametrize("together", [True, False])
def test_version_1_has_the_quota_and_its_accounting_together_or_apart(tmp_path: Path, *, together: bool) -> None:
    tree = version_1(tmp_path, together=together)
    found = tree.quotas.find(ID, INIT)
    assert tree.quotas.read(found.directory) == CpuQuota(None, 100_000)
    assert tree.quotas.used_s(found) == 2.5
    tree.quotas.write(found.directory, 50_000)
    assert (found.directory / "cpu.cfs_quota_us").read_text() == "50000"
    assert tree.quotas.read(found.directory) == CpuQuota(50_000, 100_000)
    tree.quotas.write(found.directory, None)
    assert (found.directory / "cpu.cfs_quota_us").read_text() == "-1"


@pytest.mark.parametrize("place", [f"/system.slice/docker-{ID}.scope", f"/docker/{ID}", f"/docker/{ID}/init.scope"])
def test_version_2_under_either_driver_and_with_an_init_that_makes_cgroups_of_its_own(
    tmp_path: Path, place: str
) -> None:
    tree = version_2(tmp_path, place=place)
    found = tree.quotas.find(ID, INIT)
    assert ID in found.directory.name
    assert tree.quotas.read(found.directory) == CpuQuota(None, 100_000)
    assert tree.quotas.used_s(found) == 2.5
    tree.quotas.write(found.directory, 50_000)
    assert (found.directory / "cpu.max").read_text() == "50000"
    tree.quotas.write(found.directory, None)
    assert (found.directory / "cpu.max").read_text() == "max"


def test_a_quota_of_the_containers_own_is_read_with_its_period(tmp_path: Path) -> None:
    one, two = version_1(tmp_path / "1", quota="150000"), version_2(tmp_path / "2", limit="30000 20000")
    assert one.quotas.read(one.quotas.find(ID, INIT).directory) == CpuQuota(150_000, 100_000)
    assert two.quotas.read(two.quotas.find(ID, INIT).directory) == CpuQuota(30_000, 20_000)


def test_only_a_part_of_the_hierarchy_may_be_mounted(tmp_path: Path) -> None:
    places = dict.fromkeys(("cpu", "cpuacct", "freezer"), f"/lab/host/docker/{ID}")
    tree = Tree(tmp_path, places, mounted="/lab/host")
    (tree.directories["cpu"] / "cpu.cfs_quota_us").write_text("-1")
    (tree.directories["cpu"] / "cpu.cfs_period_us").write_text("100000")
    (tree.directories["cpuacct"] / "cpuacct.usage").write_text("0")
    assert tree.quotas.find(ID, INIT).directory == tmp_path / "cgroup" / "cpu" / "docker" / ID


def test_a_cgroup_that_is_not_the_containers_is_none(tmp_path: Path) -> None:
    tree = version_2(tmp_path)
    with pytest.raises(CpuQuotaError, match="called after the container"):
        tree.quotas.find("cd" * 32, INIT)


def test_a_hierarchy_that_is_not_mounted_is_told(tmp_path: Path) -> None:
    tree = version_2(tmp_path)
    (tree.proc / "self" / "mountinfo").write_text("20 1 0:1 / /proc rw - proc proc rw\n")
    with pytest.raises(CpuQuotaError, match="mounted nowhere"):
        tree.quotas.find(ID, INIT)


def test_a_quota_that_cannot_be_written_is_found_before_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = version_1(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, _: not str(path).endswith("cfs_quota_us"))
    with pytest.raises(CpuQuotaError, match="cannot be written"):
        tree.quotas.find(ID, INIT)


def test_what_is_no_quota_is_told(tmp_path: Path) -> None:
    with pytest.raises(CpuQuotaError, match="holds 'much'"):
        version_1(tmp_path / "1", quota="much").quotas.find(ID, INIT)
    tree = version_2(tmp_path / "2")
    (tree.directories[""] / "cpu.stat").write_text("nr_periods 1\n")
    with pytest.raises(CpuQuotaError, match="how much CPU"):
        tree.quotas.find(ID, INIT)


def test_a_cgroup_that_is_gone_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    for act in (lambda: CpuQuotas().read(tmp_path / "gone"), lambda: CpuQuotas().write(tmp_path / "gone", 1000)):
        with pytest.raises(FileNotFoundError):
            act()


# -- this host's kernel ------------------------------------------------------------------------------------------------


@pytest.fixture
def group() -> Iterator[str]:
    """The name of a cgroup of this host that has a process, in each hierarchy that counts or bounds CPU."""
    name = secrets.token_hex(32)
    mounts = Path("/sys/fs/cgroup")
    unified = (mounts / "cgroup.controllers").exists()
    roots = [mounts] if unified else [mounts / kind for kind in ("cpu", "cpuacct", "freezer")]
    # Both names may stand for one hierarchy.
    directories = [root / name for root in dict.fromkeys(root.resolve() for root in roots)]
    for directory in directories:
        directory.mkdir()
    try:
        yield name
    finally:
        for directory in directories:
            if directory.exists():
                directory.rmdir()


def test_a_freeze_that_has_begun_is_seen(tmp_path: Path) -> None:
    one, two = version_1(tmp_path / "1"), version_2(tmp_path / "2")
    for tree, name, begun in ((one, "freezer.state", "FREEZING"), (two, "cgroup.freeze", "1")):
        found = tree.quotas.find(ID, INIT)
        assert not tree.quotas.freezing(found)
        (found.freezer / name).write_text(f"{begun}\n")
        assert tree.quotas.freezing(found)


@pytest.mark.root
def test_the_kernel_takes_and_tells_what_is_written(group: str) -> None:
    quotas = CpuQuotas()
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            for directory in Path("/sys/fs/cgroup").glob(f"**/{group}"):
                (directory / "cgroup.procs").write_text(str(process.pid))
            found = quotas.find(group, process.pid)
            before = quotas.read(found.directory)
            assert before.quota_us is None
            assert quotas.used_s(found) >= 0
            assert not quotas.freezing(found)
            quotas.write(found.directory, 1000)
            assert quotas.read(found.directory) == CpuQuota(1000, before.period_us)
            with pytest.raises(OSError, match="Invalid argument"):
                quotas.write(found.directory, 999)
            quotas.write(found.directory, None)
            assert quotas.read(found.directory) == before
        finally:
            process.kill()
    found.directory.rmdir()
    with pytest.raises(FileNotFoundError):
        quotas.read(found.directory)
