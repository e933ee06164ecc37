"""Reads an image's documents from the files of a Docker engine on this host, to spare a whole ``docker save``.

A shortcut and nothing more: what is read is checked by digest, what cannot be read is got from ``docker save``.

Sources: moby, image/fs.go and layer/filestore.go (classic store); containerd, docs/content-flow.md; tar-split,
tar/storage/entry.go.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .description import Store, chain_ids
from .documents import DOCUMENTS_BYTES_MAX, digest_of

_CONTENT = "io.containerd.content.v1.content/blobs/sha256"
_CONTAINERD_ROOT = Path("/var/lib/containerd")
_FILE_ENTRY, _SEGMENT_ENTRY = 1, 2


def store_of(info: Mapping[str, Any]) -> Store:
    """Which kind of image store an engine has.

    :param info: what ``docker info`` says.
    """
    for row in info.get("DriverStatus") or ():
        if list(row) == ["driver-type", "io.containerd.snapshotter.v1"]:
            return "containerd"
    return "classic"


class LocalStore:
    """The files of the engine that answered ``info``, if it is on this host."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        root = Path(info.get("DockerRootDir") or "/var/lib/docker")
        images = root / "image" / str(info.get("Driver") or "overlay2")
        self._layers = images / "layerdb" / "sha256"
        self._document_dirs = (
            images / "imagedb" / "content" / "sha256",
            root / "containerd" / "daemon" / _CONTENT,
            _CONTAINERD_ROOT / _CONTENT,
        )

    def document(self, digest: str) -> bytes | None:
        """The document that ``digest`` names; None if it is not here."""
        for directory in self._document_dirs:
            path = directory / digest.removeprefix("sha256:")
            try:
                with path.open("rb") as file:
                    content = file.read(DOCUMENTS_BYTES_MAX + 1)
            except OSError:
                continue
            if digest_of(content) == digest:
                return content
        return None

    def has_blob(self, digest: str, size: int) -> bool:
        """Whether the containerd content store here has a blob. Blobs are immutable and verified when they come in."""
        for directory in self._document_dirs[1:]:
            try:
                if (directory / digest.removeprefix("sha256:")).stat().st_size == size:
                    return True
            except OSError:
                continue
        return False

    def layer_sizes(self, diff_ids: tuple[str, ...]) -> dict[str, int] | None:
        """Bytes of each layer of a classic store as a plain tar, by diff ID; None if it cannot be told.

        Docker keeps the headers of each layer's tar, and the sizes of the files between them.
        """
        sizes: dict[str, int] = {}
        for diff_id, chain_id in zip(diff_ids, chain_ids(diff_ids), strict=True):
            if diff_id not in sizes:
                try:
                    sizes[diff_id] = _split_tar_size(
                        self._layers / chain_id.removeprefix("sha256:") / "tar-split.json.gz"
                    )
                except (OSError, EOFError, zlib.error, ValueError, TypeError):
                    return None
        return sizes


def _split_tar_size(path: Path) -> int:
    total = 0
    with gzip.open(path, "rb") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["type"] == _FILE_ENTRY:
                total += entry.get("size", 0)
            elif entry["type"] == _SEGMENT_ENTRY:
                total += len(_segment(entry))
            else:
                raise ValueError("an unknown kind of entry")
    return total


def _segment(entry: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(entry.get("payload") or "", validate=True)
    except binascii.Error as error:
        raise ValueError("a segment is not base64") from error
