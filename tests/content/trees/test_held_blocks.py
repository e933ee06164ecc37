"""P5: content of files that arrived before is referred to, and taken only if it is what it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trees_support import QUOTA_BYTES

from streamhop.content.trees import HeldBlocks, TreeApplier, TreeScanner
from streamhop.content.trees.blocks import BLOCK_BYTES, hash_of
from streamhop.content.trees.held_blocks import LENGTH_BYTES
from streamhop_protocol.errors import IntegrityError
from streamhop_protocol.held_pages import HeldBlocks as HeldHashes
from streamhop_protocol.held_pages import decode_held


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    (root / "large").write_bytes(os.urandom(10 * BLOCK_BYTES + 77))
    (root / "small").write_bytes(os.urandom(1000))
    return root


def store_round(path: Path, chunks: list[bytes], cut_off: int = 0) -> None:
    joined = b"".join(len(chunk).to_bytes(LENGTH_BYTES, "big") + chunk for chunk in chunks)
    path.write_bytes(joined[: len(joined) - cut_off])


def told(held: HeldBlocks) -> set[bytes]:
    names: set[bytes] = set()
    for meta, hashes in held.told():
        decoded = decode_held(meta, hashes, 4096)
        assert isinstance(decoded, HeldHashes)
        names.update(decoded.hashes)
    return names


def first_attempt(source: Path, directory: Path, cut_off: int = 0) -> HeldBlocks:
    """What an attempt leaves whose last bytes did not arrive."""
    held = HeldBlocks(directory, QUOTA_BYTES)
    assert len(held) == 0
    store_round(held.round_file(0, 0), list(TreeScanner(source, overlay_upper=False).scan().chunks()), cut_off)
    return HeldBlocks(directory, QUOTA_BYTES)


def test_a_second_attempt_sends_names_instead_of_content(source: Path, tmp_path: Path) -> None:
    held = first_attempt(source, tmp_path / "held")
    (source / "large").write_bytes((source / "large").read_bytes() + b"more")
    (tmp_path / "target").mkdir()
    scanner = TreeScanner(source, overlay_upper=False, held_blocks=told(held))
    chunks = list(scanner.scan().chunks())
    assert sum(map(len, chunks)) < 3000
    applier = TreeApplier(tmp_path / "target", allow_devices=False, quota_bytes=QUOTA_BYTES, held_blocks=held)
    for chunk in chunks:
        applier.feed(chunk)
    applier.finish()
    for name in ("large", "small"):
        assert (tmp_path / "target" / name).read_bytes() == (source / name).read_bytes()


def test_what_arrived_of_a_round_that_broke_off_counts(source: Path, tmp_path: Path) -> None:
    held = first_attempt(source, tmp_path / "held", cut_off=BLOCK_BYTES)
    assert 0 < len(held) < 12


def test_a_third_attempt_has_what_the_first_two_brought(source: Path, tmp_path: Path) -> None:
    held = first_attempt(source, tmp_path / "held")
    (source / "third").write_bytes(os.urandom(500))
    first = told(held)
    store_round(held.round_file(0, 0), list(TreeScanner(source, overlay_upper=False).scan().chunks()))
    again = told(HeldBlocks(tmp_path / "held", QUOTA_BYTES))
    assert again > first
    assert sorted(path.name for path in (tmp_path / "held").iterdir()) == ["pack"]


def test_a_block_that_has_changed_on_disk_is_not_taken(source: Path, tmp_path: Path) -> None:
    """P4: what lay on a disk is verified again."""
    held = first_attempt(source, tmp_path / "held")
    name = hash_of((source / "small").read_bytes())
    assert held.read(name, 1000) == (source / "small").read_bytes()
    pack = bytearray((tmp_path / "held" / "pack").read_bytes())
    at = pack.index((source / "small").read_bytes())
    pack[at] ^= 1
    (tmp_path / "held" / "pack").write_bytes(pack)
    with pytest.raises(IntegrityError, match="changed"):
        held.read(name, 1000)


def test_a_reference_to_what_is_not_here_is_refused(source: Path, tmp_path: Path) -> None:
    held = first_attempt(source, tmp_path / "held")
    with pytest.raises(IntegrityError, match="not here"):
        held.read(bytes(16), 1000)
    name = hash_of((source / "small").read_bytes())
    with pytest.raises(IntegrityError, match="not here"):
        held.read(name, 999)
    (tmp_path / "target").mkdir()
    applier = TreeApplier(tmp_path / "target", allow_devices=False, quota_bytes=QUOTA_BYTES)
    chunks = b"".join(TreeScanner(source, overlay_upper=False, held_blocks=told(held)).scan().chunks())
    with pytest.raises(IntegrityError, match="none was kept"):
        applier.feed(chunks)


def test_the_pack_is_bounded(source: Path, tmp_path: Path) -> None:
    first_attempt(source, tmp_path / "held")
    held = HeldBlocks(tmp_path / "held", 3 * BLOCK_BYTES)
    assert 0 < len(held) <= 4
    assert (tmp_path / "held" / "pack").stat().st_size <= 3 * (BLOCK_BYTES + LENGTH_BYTES)
