"""Layers and archives, byte by byte the same for the same tree."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from hoplab.images import Layer, image_recipe, write_archive, write_layer
from hoplab.services import Service, find_service

FAR_FUTURE_S = 4e9


def _tree(top: Path) -> Path:
    top.mkdir()
    for directory in ("usr/bin", "usr/share/doc/x", "var/cache/apt", "etc"):
        (top / directory).mkdir(parents=True)
    (top / "usr/bin/tool").write_text("#!/bin/sh\n")
    (top / "usr/bin/tool").chmod(0o4755)
    (top / "usr/bin/other").hardlink_to(top / "usr/bin/tool")
    (top / "usr/bin/link").symlink_to("tool")
    (top / "usr/share/doc/x/README").write_text("dropped")
    (top / "var/cache/apt/big").write_text("dropped")
    (top / "etc/hosts").write_text("dropped")
    for path in sorted(top.rglob("*")):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    return top


def test_a_layer_holds_the_tree_without_what_images_do_not_want(tmp_path: Path) -> None:
    layer = write_layer(_tree(tmp_path / "tree"), tmp_path / "layer.tar", FAR_FUTURE_S)
    content = layer.path.read_bytes()
    assert layer.size == len(content)
    assert layer.digest == hashlib.sha256(content).hexdigest()
    with tarfile.open(layer.path) as archive:
        members = {member.name: member for member in archive}
    assert set(members) == {
        *("etc", "usr", "usr/bin", "usr/bin/link", "usr/bin/other", "usr/bin/tool", "usr/share", "var", "var/cache"),
    }
    assert members["usr/bin/tool"].islnk()
    assert members["usr/bin/tool"].linkname == "usr/bin/other"
    assert members["usr/bin/other"].mode == 0o4755
    assert members["usr/bin/link"].linkname == "tool"


def test_the_same_tree_packs_to_the_same_bytes(tmp_path: Path) -> None:
    layers = [write_layer(_tree(tmp_path / n), tmp_path / f"{n}.tar", FAR_FUTURE_S) for n in ("a", "b")]
    assert layers[0].digest == layers[1].digest


def test_what_was_made_while_building_gets_a_fixed_time(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "tree")
    os.utime(tree / "usr/bin/tool", (2e9, 2e9))
    with tarfile.open(write_layer(tree, tmp_path / "layer.tar", 1.5e9).path) as archive:
        times = {member.name: member.mtime for member in archive}
    assert times["usr/bin/other"] == 1_700_000_000
    assert times["usr/bin"] == 1_000_000_000


@pytest.mark.root
def test_what_an_overlay_deleted_is_deleted_by_name(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "usr/replaced").mkdir(parents=True)
    os.mknod(upper / "usr/gone", 0o020000, os.makedev(0, 0))
    os.setxattr(upper / "usr/replaced", "trusted.overlay.opaque", b"y")
    with tarfile.open(write_layer(upper, tmp_path / "layer.tar", FAR_FUTURE_S).path) as archive:
        names = archive.getnames()
    assert names == ["usr", "usr/.wh.gone", "usr/replaced", "usr/replaced/.wh..wh..opq"]


def test_an_archive_is_an_oci_layout_with_dockers_manifest(tmp_path: Path) -> None:
    content = b"layer"
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "layer.tar").write_bytes(content)
    layer = Layer(tmp_path / "layer.tar", digest, len(content))
    write_archive(tmp_path / "image.tar", "thing:1", [layer], {"Cmd": ["run"]})
    with tarfile.open(tmp_path / "image.tar") as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    for name, blob in files.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}"
    (docker,) = json.loads(files["manifest.json"])
    assert docker["RepoTags"] == ["thing:1"]
    config = json.loads(files[docker["Config"]])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}"]
    assert config["config"]["Cmd"] == ["run"]
    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(files["blobs/sha256/" + entry["digest"].removeprefix("sha256:")])
    assert manifest["config"]["digest"].removeprefix("sha256:") in docker["Config"]
    assert manifest["layers"][0]["size"] == len(content)


def test_python_packages_are_part_of_a_recipe_only_where_there_are_some() -> None:
    """Images that have none keep the names that they have in caches."""
    plain = image_recipe({}, find_service("redis"))
    assert "python" not in plain["service"]
    own = Service("own", (), ("/bin/true",), 80, wheels=("numpy",), sources=("pure",))
    assert image_recipe({}, own)["service"]["python"] == {"wheels": ("numpy",), "sources": ("pure",)}


def test_a_service_of_one_s_own_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "start").write_text("#!/bin/sh\n")
    own = Service("own", (), ("/start",), 80, files={"/start": str(tmp_path / "start")})
    assert find_service(own) is own
    assert own.contents() == {"/start": "#!/bin/sh\n"}
