"""Volumes and directories at the target: looked at, made for a move, and gone with one that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handover_support import MOVE, host_with, written
from surroundings_support import FakeDocker, manifest_with

from streamhop.engine.docker import EngineError
from streamhop.engine.restores import Bundle
from streamhop.handover.errors import MoveError, RefusedError
from streamhop.handover.host import Host, MoveJournal
from streamhop.handover.journal import Journal
from streamhop.handover.states import Role, State
from streamhop.handover.surroundings import MOVE_LABEL
from streamhop.handover.target_mounts import check_mounts, make_mounts, places_of, remove_mounts

OURS = {MOVE_LABEL: MOVE.hex()}


@pytest.fixture
def engine() -> FakeDocker:
    return FakeDocker()


@pytest.fixture
def host(engine: Any, journal: Journal, tmp_path: Path) -> Host:
    (tmp_path / "state").mkdir()
    return host_with(engine, journal, tmp_path / "state")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory = tmp_path.resolve() / "srv"
    directory.mkdir()
    return directory


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def begun(journal: Journal) -> MoveJournal:
    record = written(journal, Role.TARGET, State.RECEIVING)
    return MoveJournal(journal, MOVE, Role.TARGET, 1, record.state)


async def removed(host: Host) -> None:
    record = host.journal.latest(MOVE, Role.TARGET)
    assert record is not None
    await remove_mounts(host, record)


async def test_a_volume_of_that_name_is_in_the_way(engine: FakeDocker) -> None:
    manifest = manifest_with(Binds=["data:/data"])
    assert await check_mounts(engine, manifest) == []  # type: ignore[arg-type]  # a fake
    engine.add_volume("data")
    (finding,) = await check_mounts(engine, manifest)  # type: ignore[arg-type]  # a fake
    assert finding.id == "target.volume"
    assert "docker volume rm data" in finding.fix


@pytest.mark.parametrize(
    ("there", "copied", "says"),
    [
        ("full", True, "is not empty"),
        ("empty", True, None),
        ("missing", True, None),
        ("missing/below", True, "the way to"),
        ("link/x", True, "leads through a link"),
        ("link", True, "neither missing nor a directory"),
        ("full/file", True, "neither missing nor a directory"),
        ("full", False, None),
        ("full/file", False, None),
        ("missing", False, "is missing"),
        ("link", False, "neither missing nor a directory"),
    ],
)
async def test_what_is_at_a_binds_place(
    engine: Any,
    base: Path,
    there: str,
    copied: bool,
    says: str | None,
) -> None:
    (base / "full").mkdir()
    (base / "full" / "file").touch()
    (base / "empty").mkdir()
    (base / "link").symlink_to("full")
    manifest = manifest_with(Binds=[f"{base}/{there}:/data"], trees=("mount:/data",) if copied else ())
    found = await check_mounts(engine, manifest)
    assert [finding.id for finding in found] == (["target.bind"] if says else [])
    assert says is None or says in found[0].reason


async def test_volumes_are_made_with_their_labels_and_ours_and_go_again(
    host: Host, engine: FakeDocker, journal: Journal
) -> None:
    """P16: and the journal knows of each before it is there."""
    manifest = manifest_with(Binds=["data:/data", "logs:/logs"])
    object.__setattr__(manifest, "volumes", {"data": {"project": "shop", MOVE_LABEL: "forged"}})
    move = begun(journal)
    await make_mounts(host, move, MOVE, manifest)
    assert engine.volumes["data"]["Labels"] == {"project": "shop", **OURS}
    assert engine.volumes["logs"]["Labels"] == OURS
    await removed(host)
    assert engine.volumes == {}
    await removed(host)


async def test_what_the_journal_promised_goes_if_making_failed_half_way(
    host: Host, engine: FakeDocker, journal: Journal
) -> None:
    engine.failing = True
    with pytest.raises(EngineError):
        await make_mounts(host, begun(journal), MOVE, manifest_with(Binds=["data:/data"]))
    engine.failing = False
    engine.add_volume("data", Labels=OURS)  # Docker did it, and did not say so
    await removed(host)
    assert engine.volumes == {}


@pytest.mark.parametrize("labels", [None, {}, {MOVE_LABEL: "another"}])
async def test_a_volume_of_somebody_else_stays(
    host: Host, engine: FakeDocker, journal: Journal, labels: dict[str, str] | None
) -> None:
    """It appeared between the preflight and the making: it is neither filled nor removed."""
    engine.add_volume("data", Labels=labels)
    with pytest.raises(RefusedError):
        await make_mounts(host, begun(journal), MOVE, manifest_with(Binds=["data:/data"]))
    await removed(host)
    assert list(engine.volumes) == ["data"]


async def test_a_volume_that_somebody_has_begun_to_use_stays(host: Host, engine: FakeDocker, journal: Journal) -> None:
    await make_mounts(host, begun(journal), MOVE, manifest_with(Binds=["data:/data"]))
    engine.in_use.add("data")
    await removed(host)
    assert list(engine.volumes) == ["data"]


async def test_directories_are_made_and_go_again_or_are_emptied(host: Host, journal: Journal, base: Path) -> None:
    (base / "empty").mkdir()
    binds = [f"{base}/empty:/a", f"{base}/new:/b", f"{base}/kept:/c"]
    (base / "kept").mkdir()
    (base / "kept" / "file").touch()
    manifest = manifest_with(Binds=binds, trees=("mount:/a", "mount:/b"))
    await make_mounts(host, begun(journal), MOVE, manifest)
    for name in ("empty", "new"):
        (base / name / "below").mkdir()
        (base / name / "below" / "file").touch()
    await removed(host)
    assert names(base) == ["empty", "kept"]
    assert names(base / "empty") == []
    assert names(base / "kept") == ["file"]
    await removed(host)


async def test_a_directory_that_was_filled_meanwhile_is_not_touched(host: Host, journal: Journal, base: Path) -> None:
    (base / "data").mkdir()
    (base / "data" / "file").touch()
    with pytest.raises(RefusedError):
        await make_mounts(host, begun(journal), MOVE, manifest_with(Binds=[f"{base}/data:/a"], trees=("mount:/a",)))
    await removed(host)
    assert names(base / "data") == ["file"]


async def test_a_link_that_took_a_directorys_place_is_not_followed(host: Host, journal: Journal, base: Path) -> None:
    """P12: what is removed is what was made, wherever a container has put a link meanwhile."""
    (base / "data").mkdir()
    (base / "precious").mkdir()
    (base / "precious" / "file").touch()
    await make_mounts(host, begun(journal), MOVE, manifest_with(Binds=[f"{base}/data:/a"], trees=("mount:/a",)))
    (base / "data").rmdir()
    (base / "data").symlink_to("precious")
    await removed(host)
    assert names(base / "precious") == ["file"]


def test_trees_are_where_docker_has_mounted_them(tmp_path: Path) -> None:
    manifest = manifest_with(Binds=["data:/data"], trees=("mount:/data",))
    bundle = Bundle(tmp_path, tmp_path / "rootfs", {"/data": tmp_path / "volume"})
    assert places_of(manifest, bundle) == {"rootfs": tmp_path / "rootfs", "mount:/data": tmp_path / "volume"}
    with pytest.raises(MoveError):
        places_of(manifest, Bundle(tmp_path, tmp_path / "rootfs", {}))
