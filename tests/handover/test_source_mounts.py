"""Volumes and binds at the source: what is in the way, what is sent, what goes after the move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from surroundings_support import FakeDocker

from streamhop.handover import source_mounts
from streamhop.handover.source_mounts import SourceMounts, find_mounts
from streamhop.handover.surroundings import MOVE_LABEL, Surroundings

ID = "c" * 64


@pytest.fixture
def engine() -> FakeDocker:
    return FakeDocker()


@pytest.fixture(autouse=True)
def visible(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Where the container sees mounts."""
    places = {"/", "/data"}
    monkeypatch.setattr(source_mounts, "_mount_points", lambda _: frozenset(places))
    return places


async def found(engine: Any, mount: dict[str, Any], **wishes: Any) -> SourceMounts:
    details = {"Id": ID, "State": {"Pid": 1}, "Mounts": [{"Destination": "/data", "RW": True, **mount}]}
    return await find_mounts(engine, details, frozenset({"data"}), Surroundings(**wishes))


def volume(name: str = "data") -> dict[str, Any]:
    return {"Type": "volume", "Name": name, "Source": f"/var/lib/docker/volumes/{name}/_data", "Driver": "local"}


def other(state: str, **mount: Any) -> dict[str, Any]:
    return {"Id": "d" * 64, "Names": ["/backup"], "State": state, "Mounts": [mount]}


async def test_a_volume_is_sent_with_its_labels_and_goes(engine: FakeDocker) -> None:
    engine.add_volume("data", Labels={"project": "shop", MOVE_LABEL: "earlier"})
    mounts = await found(engine, volume())
    assert mounts.findings == []
    assert mounts.trees == {"mount:/data": Path("/var/lib/docker/volumes/data/_data")}
    assert mounts.labels == {"data": {"project": "shop"}}
    assert mounts.removable == {"data": "then"}


async def test_one_without_a_name_of_its_own_has_no_labels(engine: FakeDocker) -> None:
    engine.add_volume("e" * 64, Labels={"com.docker.volume.anonymous": ""})
    mounts = await found(engine, volume("e" * 64))
    assert (mounts.labels, mounts.removable) == ({}, {"e" * 64: "then"})


async def test_copied_volumes_stay(engine: FakeDocker) -> None:
    engine.add_volume("data")
    mounts = await found(engine, volume(), volumes="copy")
    assert (len(mounts.trees), mounts.removable) == (1, {})


@pytest.mark.parametrize("fields", [{"Driver": "nfs"}, {"Options": {"type": "tmpfs"}}])
async def test_only_files_of_this_host_can_be_sent(engine: FakeDocker, fields: dict[str, Any]) -> None:
    engine.add_volume("data", **fields)
    mounts = await found(engine, volume())
    assert [finding.id for finding in mounts.findings] == ["container.volume-driver"]
    assert mounts.removable == {}


@pytest.mark.parametrize(
    ("state", "writable", "volumes", "refused"),
    [
        ("running", True, "move", True),
        ("running", True, "copy", True),
        ("running", False, "move", True),
        ("running", False, "copy", False),
        ("exited", True, "move", True),
        ("exited", True, "copy", False),
    ],
)
async def test_a_shared_volume_stays_with_those_who_only_read_it(
    engine: FakeDocker,
    state: str,
    writable: bool,
    volumes: str,
    refused: bool,
) -> None:
    engine.add_volume("data")
    engine.containers = [other(state, Name="data", RW=writable), {"Id": ID, "Mounts": [{"Name": "data"}]}]
    mounts = await found(engine, volume(), volumes=volumes)
    assert [finding.id for finding in mounts.findings] == ["container.volume-shared"] * refused
    assert not refused or "backup" in mounts.findings[0].reason


async def test_a_mount_behind_a_link_of_the_image_is_found(engine: FakeDocker, visible: set[str]) -> None:
    visible.discard("/data")
    engine.add_volume("data")
    mounts = await found(engine, volume())
    assert [finding.id for finding in mounts.findings] == ["container.mount-link"]
    assert mounts.removable == {}


def bind(path: Path) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(path)}


async def test_a_bind_is_refused_unless_its_user_says_what_to_do(engine: FakeDocker, tmp_path: Path) -> None:
    assert [finding.id for finding in (await found(engine, bind(tmp_path))).findings] == ["container.bind"]
    copied = await found(engine, bind(tmp_path), bind="copy")
    assert (copied.findings, copied.trees) == ([], {"mount:/data": tmp_path})
    expected = await found(engine, bind(tmp_path), bind="expect")
    assert (expected.findings, expected.trees) == ([], {})
    assert copied.removable == expected.removable == {}


async def test_a_file_cannot_be_copied(engine: FakeDocker, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    mounts = await found(engine, bind(tmp_path / "file"), bind="copy")
    assert [finding.id for finding in mounts.findings] == ["container.bind-file"]
    assert (await found(engine, bind(tmp_path / "file"), bind="expect")).findings == []


@pytest.mark.parametrize(
    ("state", "writable", "place", "refused"),
    [
        ("running", True, "", True),
        ("running", True, "below", True),
        ("running", True, "..", True),
        ("running", False, "", False),
        ("exited", True, "", False),
        ("running", True, "../other", False),
    ],
)
async def test_a_directory_that_others_write_to_is_not_copied(
    engine: FakeDocker,
    tmp_path: Path,
    state: str,
    writable: bool,
    place: str,
    refused: bool,
) -> None:
    theirs = (tmp_path / place).resolve()
    engine.containers = [other(state, Type="bind", Source=str(theirs), RW=writable)]
    mounts = await found(engine, bind(tmp_path), bind="copy")
    assert [finding.id for finding in mounts.findings] == ["container.volume-shared"] * refused


async def test_a_volume_that_is_mounted_twice_is_sent_once(engine: Any, visible: set[str]) -> None:
    visible.add("/again")
    engine.add_volume("data")
    mounts = [volume() | {"Destination": place} for place in ("/data", "/again")]
    details = {"Id": ID, "State": {"Pid": 1}, "Mounts": mounts}
    result = await find_mounts(engine, details, frozenset({"data"}), Surroundings())
    assert (result.findings, list(result.trees)) == ([], ["mount:/data"])


async def test_directories_that_overlap_are_not_copied(engine: Any, visible: set[str], tmp_path: Path) -> None:
    visible.add("/again")
    (tmp_path / "below").mkdir()
    mounts = [bind(tmp_path) | {"Destination": "/data"}, bind(tmp_path / "below") | {"Destination": "/again"}]
    details = {"Id": ID, "State": {"Pid": 1}, "Mounts": mounts}
    result = await find_mounts(engine, details, frozenset(), Surroundings(bind="copy"))
    assert [finding.id for finding in result.findings] == ["container.mount"]
