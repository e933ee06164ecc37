"""Images for tests, the archives that an engine makes of them, and an engine that has them in memory."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamhop.content.image_layers import ImageDescription, LayerDescription
from streamhop.content.image_layers.description import chain_ids
from streamhop.content.image_layers.documents import (
    OCI_LAYER,
    Descriptor,
    build_index,
    build_manifest,
    media_type_of,
)
from streamhop.engine.docker import Conflict, EngineError, NotFound


def digest(content: bytes) -> str:
    """The digest that Docker names a blob by."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer_tar(name: str, content: bytes = b"") -> bytes:
    """A layer with one file."""
    return tar_of({name: content})


def tar_of(files: Mapping[str, bytes], tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    """An archive of regular files, written by Python's own tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def config_of(layers: Sequence[bytes], **more: Any) -> bytes:
    """An image's configuration that lists ``layers``."""
    rootfs = {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, **more}).encode()


@dataclass
class SampleImage:
    """An image with everything that belongs to it."""

    layers: list[bytes]
    names: tuple[str, ...] = ()
    config: bytes = b""

    def __post_init__(self) -> None:
        self.config = self.config or config_of(self.layers)

    @property
    def manifest(self) -> bytes:
        """The manifest of a containerd store, whose layers are plain tars here."""
        return build_manifest(self.config, [Descriptor(OCI_LAYER, digest(layer), len(layer)) for layer in self.layers])

    @property
    def blobs(self) -> dict[str, bytes]:
        """Layers by digest."""
        return {digest(layer): layer for layer in self.layers}

    @property
    def _described(self) -> tuple[LayerDescription, ...]:
        return tuple(LayerDescription(digest(layer), digest(layer), len(layer)) for layer in self.layers)

    def classic(self) -> ImageDescription:
        """As a source with the classic store describes it."""
        return ImageDescription(digest(self.config), "classic", self.names, self._described, self.config)

    def containerd(self, *, indexed: bool = False) -> ImageDescription:
        """As a source with a containerd store describes it, with an index or without."""
        index = build_index(media_type_of(self.manifest, ""), self.manifest) if indexed else b""
        root = index or self.manifest
        return ImageDescription(
            digest(root), "containerd", self.names, self._described, self.config, self.manifest, index
        )

    def archive(self, *, without: frozenset[str] = frozenset()) -> bytes:
        """What ``docker save`` of Docker 25 or later writes: an OCI layout with Docker's list beside it."""
        files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        for document in (*self.layers, self.config, self.manifest):
            if digest(document) not in without:
                files[f"blobs/sha256/{digest(document)[7:]}"] = document
        files["index.json"] = build_index(media_type_of(self.manifest, ""), self.manifest)
        files["manifest.json"] = json.dumps(
            [{"Config": f"blobs/sha256/{digest(self.config)[7:]}", "RepoTags": list(self.names), "Layers": []}]
        ).encode()
        return tar_of(files)


async def pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    """``content`` as it may come from a socket."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


@dataclass
class FakeEngine:
    """As much of a Docker engine as images need, with either kind of store."""

    store: str = "classic"
    root: str = "/nonexistent/docker"
    piece_bytes: int = 4096
    archives: dict[str, bytes] = field(default_factory=dict)
    """What ``save_image`` gives, by image ID."""

    known: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Diff IDs by image ID."""

    tags: dict[str, str] = field(default_factory=dict)
    loads: list[dict[str, bytes]] = field(default_factory=list)
    """The files of each archive that was loaded."""

    removed: list[str] = field(default_factory=list)
    in_use: set[str] = field(default_factory=set)
    refuse_tags: bool = False
    load_as: str | None = None
    """An ID that this engine gives to what it loads, in place of the right one."""

    load_complaint: str = ""
    saved_bytes: int = 0
    saves_open: int = 0

    def add(self, image: SampleImage, *names: str) -> str:
        """Have an image; returns its ID here."""
        image_id = digest(image.config if self.store == "classic" else image.manifest)
        self.known[image_id] = tuple(digest(layer) for layer in image.layers)
        self.archives[image_id] = image.archive()
        self.tags.update(dict.fromkeys(names, image_id))
        return image_id

    async def info(self) -> dict[str, Any]:
        """As the engine describes itself."""
        snapshotter = [["driver-type", "io.containerd.snapshotter.v1"]]
        status = snapshotter if self.store == "containerd" else [["Backing Filesystem", "extfs"]]
        return {"Driver": "overlay2", "DriverStatus": status, "DockerRootDir": self.root}

    async def images(self) -> list[dict[str, Any]]:
        """All images."""
        return [{"Id": image_id} for image_id in self.known]

    async def inspect_image(self, reference: str) -> dict[str, Any]:
        """One image."""
        image_id = self.tags.get(reference, reference)
        if image_id not in self.known:
            raise NotFound(f"no image {reference}", 404)
        names = sorted(name for name, target in self.tags.items() if target == image_id)
        return {"Id": image_id, "RepoTags": names, "RootFS": {"Type": "layers", "Layers": list(self.known[image_id])}}

    async def save_image(self, reference: str) -> AsyncIterator[bytes]:
        """An archive in small pieces."""
        self.saves_open += 1
        try:
            async for piece in pieces(self.archives[self.tags.get(reference, reference)], self.piece_bytes):
                self.saved_bytes += len(piece)
                yield piece
        finally:
            self.saves_open -= 1

    async def load_image(self, archive: AsyncIterator[bytes]) -> list[str]:
        """Read the whole archive and take the image in it, if all that this kind of store needs is there."""
        content = b"".join([piece async for piece in archive])
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            files = {info.name: reader.read() for info in tar if (reader := tar.extractfile(info)) is not None}
        self.loads.append(files)
        if self.load_complaint:
            return ["Loaded image ID: " + self.load_complaint, "Error unpacking image: " + self.load_complaint]
        (row,) = json.loads(files["manifest.json"])
        if row["RepoTags"]:
            raise AssertionError("an archive with names would overwrite those of other images")
        config = files[row["Config"]]
        diff_ids = tuple(json.loads(config)["rootfs"]["diff_ids"])
        if self.store == "classic":
            image_id = digest(config)
            chains = {chain for layers in self.known.values() for chain in chain_ids(layers)}
            for chain, diff_id, path in zip(chain_ids(diff_ids), diff_ids, row["Layers"], strict=True):
                if chain not in chains and digest(files.get(path, b"")) != diff_id:
                    raise EngineError(f"layer {diff_id} is not in the archive", 500)
        else:
            root = json.loads(files["index.json"])["manifests"][0]["digest"]
            image_id = root
            document = json.loads(files[f"blobs/sha256/{root[7:]}"])
            if "manifests" in document:
                document = json.loads(files[f"blobs/sha256/{document['manifests'][0]['digest'][7:]}"])
            here = {diff_id for layers in self.known.values() for diff_id in layers}
            for layer in document["layers"]:
                if layer["digest"] not in here and f"blobs/sha256/{layer['digest'][7:]}" not in files:
                    return ["Loaded image ID: " + image_id, f"Error unpacking image: {layer['digest']}: not found"]
        self.known[self.load_as or image_id] = diff_ids
        return ["Loaded image ID: " + image_id]

    async def tag(self, image: str, repo: str, tag: str | None = None) -> None:
        """Name an image."""
        if self.refuse_tags:
            raise EngineError("no", 500)
        if image not in self.known:
            raise NotFound("no such image", 404)
        self.tags[f"{repo}:{tag}"] = image

    async def remove_image(self, reference: str, force: bool = False, noprune: bool = False) -> None:
        """Take a name away, and with the last one the image."""
        image_id = self.tags.get(reference, reference)
        if image_id not in self.known:
            raise NotFound("no such image", 404)
        if image_id in self.in_use:
            raise Conflict("in use", 409)
        self.removed.append(reference)
        self.tags.pop(reference, None)
        if image_id not in self.tags.values():
            del self.known[image_id]
