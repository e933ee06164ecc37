"""Docker images without Docker: a base layer, a layer a service, packed as ``docker load`` takes them.

The archive is an OCI image layout (OCI image specification 1.1) with the ``manifest.json`` that older Docker
engines read beside it, as ``docker save`` writes since Docker 25. Layers are not compressed, so that their digests
are the layers' own identities (diff IDs).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import shutil
import stat
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .debian import Overlay, install
from .python_site import install_packages
from .rootfs import python_version
from .services import PYTHON_SITE, Service

BASE_IMAGE = "hoplab-base:1"
_RECIPE_VERSION = 1
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MADE_MTIME_S = 1_700_000_000
"""Given to whatever was made while building; what comes out of packages keeps its time."""

_CREATED = "2023-11-14T22:13:20Z"
_EMPTIED = ("dev", "proc", "run", "sys", "tmp", "var/cache", "var/log", "var/lib/apt", "var/tmp", "debootstrap")
_DROPPED = (
    "etc/dpkg/dpkg.cfg.d/hoplab",
    "etc/hosts",
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    "usr/sbin/policy-rc.d",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/lib/dpkg/info/format-old",
)
_CAPABILITY = "security.capability"
_OPAQUE = "trusted.overlay.opaque"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def image_recipe(base: dict[str, Any], service: Service | None) -> dict[str, Any]:
    """What decides how an image is made."""
    recipe: dict[str, Any] = {"version": _RECIPE_VERSION, "base": base}
    if service is not None:
        recipe["service"] = {
            "packages": service.packages,
            "command": service.command,
            "port": service.port,
            "files": service.contents(),
            "before": service.before,
            "volatile": service.volatile,
        }
        if service.wheels or service.sources:
            recipe["service"]["python"] = {"wheels": service.wheels, "sources": service.sources}
    return recipe


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer on disk."""

    path: Path
    digest: str
    size: int

    def as_descriptor(self) -> dict[str, Any]:
        """Its OCI descriptor."""
        return _descriptor("application/vnd.oci.image.layer.v1.tar", self.digest, self.size)


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


class _Hashing(io.RawIOBase):
    """A file that is hashed while it is written."""

    def __init__(self, file: io.BufferedWriter) -> None:
        super().__init__()
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        self._file.write(data)
        self.size += len(data)
        return len(data)


def _walk(top: Path) -> Iterator[Path]:
    """All entries below ``top`` in a fixed order, without what images do not want."""
    for directory, names, files in os.walk(top):
        here = Path(directory)
        relative = here.relative_to(top)
        names.sort()
        if relative.as_posix() in _EMPTIED:
            names.clear()
            continue
        for name in sorted([*names, *files]):
            if (relative / name).as_posix() in _DROPPED:
                with contextlib.suppress(ValueError):
                    names.remove(name)
                continue
            yield here / name


def write_layer(top: Path, target: Path, since_s: float) -> Layer:
    """Pack the tree ``top``, or an overlay's upper directory, as a layer.

    :param since_s: whatever was changed later than this gets a fixed time, so that a tree packs to the same bytes.
    """
    links: dict[tuple[int, int], str] = {}
    with target.open("wb") as file:
        hashing = _Hashing(file)
        with tarfile.open(fileobj=hashing, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in _walk(top):
                _add(archive, path, path.relative_to(top).as_posix(), since_s, links)
    return Layer(target, hashing.sha256.hexdigest(), hashing.size)


def _add(archive: tarfile.TarFile, path: Path, name: str, since_s: float, links: dict[tuple[int, int], str]) -> None:
    status = path.lstat()
    if stat.S_ISSOCK(status.st_mode):
        return
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        # How overlayfs says "deleted"; layers say it by a name (OCI image specification, layer.md).
        parent, _, base = name.rpartition("/")
        _add_bytes(archive, f"{parent}/.wh.{base}".lstrip("/"), b"", 0o644)
        return
    member = archive.gettarinfo(path, arcname=name)
    member.uname = member.gname = ""
    member.mtime = _MADE_MTIME_S if status.st_mtime >= since_s else int(status.st_mtime)
    if stat.S_ISREG(status.st_mode):
        identity = (status.st_dev, status.st_ino)
        first = links.setdefault(identity, name)
        if first != name:
            member.type, member.linkname, member.size = tarfile.LNKTYPE, first, 0
        else:
            member.type, member.size = tarfile.REGTYPE, status.st_size
    attributes = os.listxattr(path, follow_symlinks=False)
    if _CAPABILITY in attributes:
        value = os.getxattr(path, _CAPABILITY, follow_symlinks=False)
        member.pax_headers = {f"SCHILY.xattr.{_CAPABILITY}": value.decode("utf-8", "surrogateescape")}
    if member.isreg():
        with path.open("rb") as content:
            archive.addfile(member, content)
    else:
        archive.addfile(member)
    if stat.S_ISDIR(status.st_mode) and _OPAQUE in attributes:
        _add_bytes(archive, f"{name}/.wh..wh..opq", b"", 0o644)


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), mode, _MADE_MTIME_S
    archive.addfile(member, io.BytesIO(content))


def write_archive(target: Path, image: str, layers: Sequence[Layer], configuration: dict[str, Any]) -> None:
    """Pack layers as an archive for ``docker load``.

    :param configuration: the image's start values: Cmd, Env, ExposedPorts.
    """
    machine = platform.machine()
    config = _json(
        {
            "architecture": _ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "created": _CREATED,
            "config": {"Env": [_PATH], **configuration},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
            "history": [{"created": _CREATED, "created_by": "hoplab"} for _ in layers],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _blob_descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [layer.as_descriptor() for layer in layers],
        }
    )
    entry = _blob_descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    entry["annotations"] = {
        "io.containerd.image.name": f"docker.io/library/{image}",
        "org.opencontainers.image.ref.name": image.rpartition(":")[2],
    }
    docker_manifest = {
        "Config": _blob_path(_digest(config)),
        "RepoTags": [image],
        "Layers": [_blob_path(layer.digest) for layer in layers],
    }
    with tarfile.open(target, "w") as archive:
        _add_bytes(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}), 0o644)
        _add_bytes(archive, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}), 0o644)
        _add_bytes(archive, "manifest.json", _json([docker_manifest]), 0o644)
        for blob in (config, manifest):
            _add_bytes(archive, _blob_path(_digest(blob)), blob, 0o644)
        for layer in layers:
            member = tarfile.TarInfo(_blob_path(layer.digest))
            member.size, member.mtime = layer.size, _MADE_MTIME_S
            with layer.path.open("rb") as content:
                archive.addfile(member, content)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{digest}"


def _blob_descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return _descriptor(media_type, _digest(content), len(content))


def make_base_image(target: Path, base: Path) -> None:
    """Pack the small Debian tree as an image; its layer is kept for the services' images."""
    built_s = (base / "etc/dpkg/dpkg.cfg.d/hoplab").stat().st_mtime
    # The tree was unpacked in the minutes before that file was written; package contents are years or days older.
    layer = write_layer(base, target / "layer.tar", built_s - 3600)
    write_archive(target / "image.tar", BASE_IMAGE, [layer], {"Cmd": ["/bin/sh"]})
    (target / "layer.json").write_text(json.dumps({"digest": layer.digest, "size": layer.size}))


def make_service_image(target: Path, base: Path, base_image: Path, service: Service) -> None:
    """Install a service over the base in an overlay and pack what that changed."""
    since_s = time.time() - 60
    overlay = Overlay(base, target / "upper", target / "work", target / "merged")
    for directory in (overlay.upper, overlay.work, overlay.merged):
        directory.mkdir()
    for path, text in service.before.items():
        _write(overlay.upper / path[1:], text)
    install(overlay, service.packages)
    for path, text in service.contents().items():
        _write(overlay.upper / path[1:], text)
    if service.wheels or service.sources:
        install_packages(
            overlay.upper / PYTHON_SITE[1:], python_version(overlay), wheels=service.wheels, sources=service.sources
        )
    for path in service.volatile:
        (overlay.upper / path[1:]).mkdir(parents=True, exist_ok=True)
    layer = write_layer(overlay.upper, target / "layer.tar", since_s)
    described = json.loads((base_image / "layer.json").read_text())
    layers = [Layer(base_image / "layer.tar", described["digest"], described["size"]), layer]
    ports: dict[str, dict[str, str]] = {f"{service.port}/tcp": {}}
    write_archive(target / "image.tar", service.image, layers, {"Cmd": list(service.command), "ExposedPorts": ports})
    layer.path.unlink()
    _remove_overlay(overlay)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755 if text.startswith("#!") else 0o644)


def _remove_overlay(overlay: Overlay) -> None:
    for directory in (overlay.upper, overlay.work, overlay.merged):
        shutil.rmtree(directory)
