"""Images for tests, and an engine in memory that saves and loads them as Docker does."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamhop.content.image_layers import ImageDescription, LayerDescription
from streamhop.engine.docker import EngineError, NotFound

OCI = "application/vnd.oci.image"


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer_tar(text: str, size: int = 10_000) -> bytes:
    """A layer with one file, whose content follows from ``text``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(f"file-{text}")
        info.size = size
        tar.addfile(info, io.BytesIO((text.encode() * size)[:size]))
    return out.getvalue()


@dataclass
class Built:
    """An image with its content, for either kind of store."""

    store: str
    layers: list[bytes]
    """As plain tars, lowest first."""

    compressed: bool = False
    with_index: bool = False
    comment: str = ""
    blobs: list[bytes] = field(init=False)
    config: bytes = field(init=False)
    manifest: bytes = field(init=False)
    index: bytes = field(init=False, default=b"")

    def __post_init__(self) -> None:
        self.blobs = [gzip.compress(layer, mtime=0) if self.compressed else layer for layer in self.layers]
        self.config = json.dumps(
            {"os": "linux", "comment": self.comment, "rootfs": {"type": "layers", "diff_ids": self.diff_ids}}
        ).encode()
        kind = f"{OCI}.layer.v1.tar" + ("+gzip" if self.compressed else "")
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{OCI}.manifest.v1+json",
                "config": self._descriptor(f"{OCI}.config.v1+json", self.config),
                "layers": [self._descriptor(kind, blob) for blob in self.blobs],
            }
        ).encode()
        if self.with_index:
            absent = self._descriptor(f"{OCI}.manifest.v1+json", b"another platform's")
            mine = self._descriptor(f"{OCI}.manifest.v1+json", self.manifest)
            document = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [absent, mine]}
            self.index = json.dumps(document).encode()

    @staticmethod
    def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": sha256(content), "size": len(content)}

    @property
    def diff_ids(self) -> list[str]:
        return [sha256(layer) for layer in self.layers]

    @property
    def digests(self) -> list[str]:
        return [sha256(blob) for blob in self.blobs]

    @property
    def id(self) -> str:
        return sha256(self.config if self.store == "classic" else self.index or self.manifest)

    @property
    def documents(self) -> dict[str, bytes]:
        return {sha256(content): content for content in (self.config, self.manifest, self.index) if content}

    def description(self, names: tuple[str, ...] = ()) -> ImageDescription:
        layers = tuple(
            LayerDescription(sha256(blob), sha256(layer), len(blob))
            for blob, layer in zip(self.blobs, self.layers, strict=True)
        )
        keeps_manifest = self.store == "containerd"
        return ImageDescription(
            self.id, self.store, names, layers, self.config,  # type: ignore[arg-type]
            self.manifest if keeps_manifest else b"", self.index if keeps_manifest else b"",
        )  # fmt: skip


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def in_pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    async def pieces() -> AsyncIterator[bytes]:
        for offset in range(0, len(content), size):
            yield content[offset : offset + size]

    return pieces()


class FakeEngine:
    """Keeps images as a Docker engine with either kind of store does, as far as the API shows it."""

    def __init__(self, store: str, root: Path, *images: Built) -> None:
        self.store = store
        self.root = root
        self.images_by_id: dict[str, Built] = {}
        self.names: dict[str, str] = {}
        self.blobs: dict[str, bytes] = {}
        self.loads: list[set[str]] = []
        self.saves = 0
        self.chunk_bytes = 1000
        self.tag_error: EngineError | None = None
        for image in images:
            self.add(image)

    def add(self, image: Built, *names: str) -> Built:
        assert image.store == self.store
        self.images_by_id[image.id] = image
        self.blobs |= image.documents | dict(zip(image.digests, image.blobs, strict=True))
        self.names |= dict.fromkeys(names, image.id)
        return image

    def _find(self, reference: str) -> str:
        image_id = self.names.get(reference, reference)
        if image_id not in self.images_by_id:
            raise NotFound(f"No such image: {reference}", 404)
        return image_id

    async def info(self) -> dict[str, Any]:
        status = (
            [["driver-type", "io.containerd.snapshotter.v1"]] if self.store == "containerd" else [["d_type", "true"]]
        )
        return {"Driver": "overlay2", "DriverStatus": status, "DockerRootDir": str(self.root)}

    async def images(self) -> list[dict[str, Any]]:
        return [{"Id": image_id} for image_id in self.images_by_id]

    async def inspect_image(self, reference: str) -> dict[str, Any]:
        image_id = self._find(reference)
        names = [name for name, owner in self.names.items() if owner == image_id]
        return {"Id": image_id, "RepoTags": names, "RootFS": {"Layers": self.images_by_id[image_id].diff_ids}}

    async def save_image(self, reference: str) -> AsyncIterator[bytes]:
        image = self.images_by_id[self._find(reference)]
        self.saves += 1
        content = image.documents | dict(zip(image.digests, image.blobs, strict=True))
        files = {f"blobs/sha256/{digest[7:]}": blob for digest, blob in sorted(content.items()) if digest in self.blobs}
        async for piece in in_pieces(archive({**files, "index.json": b"{}", "oci-layout": b"{}"}), self.chunk_bytes):
            yield piece

    async def load_image(self, content: AsyncIterator[bytes]) -> list[str]:
        whole = b"".join([piece async for piece in content])
        with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]
        blobs = {f"sha256:{name[13:]}": blob for name, blob in files.items() if name.startswith("blobs/")}
        assert all(sha256(blob) == digest for digest, blob in blobs.items())
        self.loads.append(set(blobs))
        return self._load_classic(files, blobs) if self.store == "classic" else self._load_containerd(files, blobs)

    def _load_classic(self, files: dict[str, bytes], blobs: dict[str, bytes]) -> list[str]:
        (entry,) = json.loads(files["manifest.json"])
        assert entry["RepoTags"] is None
        config = files[entry["Config"]]
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        layers = []
        for position, (path, diff_id) in enumerate(zip(entry["Layers"], diff_ids, strict=True)):
            here = [i for i in self.images_by_id.values() if i.diff_ids[: position + 1] == diff_ids[: position + 1]]
            if here:
                layers.append(here[0].layers[position])
                continue
            if path not in files:
                raise EngineError(f"open {path}: no such file or directory")
            blob = files[path]
            layers.append(gzip.decompress(blob) if blob[:2] == b"\x1f\x8b" else blob)
            assert sha256(layers[-1]) == diff_id
        image = Built("classic", layers)
        image.config = config
        self.add(image)
        return [f"Loaded image ID: {image.id}"]

    def _load_containerd(self, files: dict[str, bytes], blobs: dict[str, bytes]) -> list[str]:
        self.blobs |= blobs
        (root,) = json.loads(files["index.json"])["manifests"]
        document = json.loads(self.blobs[root["digest"]])
        index = self.blobs[root["digest"]] if "manifests" in document else b""
        present = [e["digest"] for e in document.get("manifests", [root]) if e["digest"] in self.blobs]
        manifest = self.blobs[present[0]]
        entries = json.loads(manifest)["layers"]
        lacking = [entry["digest"] for entry in entries if entry["digest"] not in self.blobs]
        raw = [self.blobs.get(entry["digest"], b"") for entry in entries]
        image = Built("containerd", [gzip.decompress(blob) if blob[:2] == b"\x1f\x8b" else blob for blob in raw])
        image.blobs, image.manifest, image.index = raw, manifest, index
        image.config = self.blobs[json.loads(manifest)["config"]["digest"]]
        self.images_by_id[image.id] = image
        lines = [f"Loaded image ID: {image.id}"]
        return [*lines, f"Error unpacking image {image.id}: {lacking[0]}: not found"] if lacking else lines

    async def tag(self, image: str, repo: str, tag: str | None = None) -> None:
        if self.tag_error is not None:
            raise self.tag_error
        self.names[f"{repo}:{tag}"] = self._find(image)

    async def remove_image(self, reference: str, force: bool = False, noprune: bool = False) -> None:
        image_id = self._find(reference)
        self.names.pop(reference, None)
        if reference == image_id or image_id not in self.names.values():
            del self.images_by_id[image_id]
