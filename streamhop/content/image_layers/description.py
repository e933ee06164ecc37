"""What the source says about a container's image, and what the target checks of it.

An image has two identities. On Docker's classic store its ID is the digest of its configuration; on the containerd
store it is the digest of its manifest, or of the index that lists the manifests of its platforms. What both have
in common are the *diff IDs*, the digests of the uncompressed layers, which the configuration lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from streamhop_protocol.errors import LimitError, MalformedError

from .documents import (
    DOCUMENTS_BYTES_MAX,
    LAYERS_MAX,
    Descriptor,
    check_digest,
    check_size,
    diff_ids_of,
    digest_of,
    parse_index,
    parse_manifest,
)
from .references import split_name

Store = Literal["classic", "containerd"]

NAMES_MAX = 64
"""Names of one image that travel."""


@dataclass(frozen=True, slots=True)
class LayerDescription:
    """One layer, as it travels."""

    digest: str
    """SHA-256 of the blob that is sent: compressed on the containerd store as it was pulled, else a plain tar."""

    diff_id: str
    """SHA-256 of the layer as a plain tar."""

    size: int
    """Bytes of the blob that is sent."""


@dataclass(frozen=True, slots=True)
class ImageDescription:
    """An image without its layers' content. Equal images have equal IDs; see the module about IDs."""

    id: str
    store: Store
    """Which kind of image store the source has; decides what ``id`` is the digest of."""

    names: tuple[str, ...]
    """``repository:tag`` of each name that the image has at the source."""

    layers: tuple[LayerDescription, ...]
    """Lowest first. A layer may occur more than once."""

    config: bytes
    manifest: bytes = b""
    """Empty if the source has the classic store, which keeps none."""

    index: bytes = b""
    """Empty unless the ID is an index's."""

    @property
    def config_digest(self) -> str:
        """The ID of this image on a classic store."""
        return digest_of(self.config)

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Diff IDs of the layers, lowest first."""
        return tuple(layer.diff_id for layer in self.layers)

    def to_wire(self) -> dict[str, Any]:
        """The description as maps, lists, strings, bytes and numbers."""
        return {
            "id": self.id,
            "store": self.store,
            "names": list(self.names),
            "layers": [{"digest": layer.digest, "diff_id": layer.diff_id, "size": layer.size} for layer in self.layers],
            "config": self.config,
            "manifest": self.manifest,
            "index": self.index,
        }

    @classmethod
    def from_wire(cls, value: object) -> ImageDescription:
        """Check a peer's description: every part of it must agree with the ID.

        :raises MalformedError: a field is missing, of the wrong kind, or contradicts another.
        :raises LimitError: a count or size is over its bound.
        """
        if not isinstance(value, dict):
            raise MalformedError("the image's description is not a map")
        store = value.get("store")
        if store not in ("classic", "containerd"):
            raise MalformedError("the image's store is neither classic nor containerd")
        config, manifest, index = (_document(value, name) for name in ("config", "manifest", "index"))
        total = len(config) + len(manifest) + len(index)
        if total > DOCUMENTS_BYTES_MAX:
            raise LimitError(f"the image's documents have {total} bytes, at most {DOCUMENTS_BYTES_MAX} allowed")
        description = cls(
            id=check_digest(value.get("id"), "the image's ID"),
            store=store,
            names=_names(value.get("names")),
            layers=_layers(value.get("layers")),
            config=config,
            manifest=manifest,
            index=index,
        )
        check_consistent(description)
        return description


def check_consistent(image: ImageDescription) -> None:
    """Check that ID, documents and layers belong together.

    :raises MalformedError, LimitError: they do not.
    """
    if diff_ids_of(image.config) != image.diff_ids:
        raise MalformedError("the image's configuration lists other layers than its description")
    if image.store == "classic":
        if image.manifest or image.index:
            raise MalformedError("an image of the classic store has neither a manifest nor an index")
        if image.config_digest != image.id:
            raise MalformedError("the image's configuration is not the one that its ID names")
        if any(layer.digest != layer.diff_id for layer in image.layers):
            raise MalformedError("the layers of a classic store travel uncompressed")
        return
    manifest = parse_manifest(image.manifest)
    if (manifest.config.digest, manifest.config.size) != (image.config_digest, len(image.config)):
        raise MalformedError("the image's manifest names another configuration")
    listed = tuple((layer.digest, layer.size) for layer in manifest.layers)
    if listed != tuple((layer.digest, layer.size) for layer in image.layers):
        raise MalformedError("the image's manifest lists other layers than its description")
    root = image.manifest
    if image.index:
        root = image.index
        if digest_of(image.manifest) not in {entry.digest for entry in parse_index(image.index)}:
            raise MalformedError("the image's index does not list its manifest")
    if digest_of(root) != image.id:
        raise MalformedError("the image's manifest or index is not the one that its ID names")


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """What Docker knows each layer by together with all below it (OCI image specification, config.md, "ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain


def from_manifest(
    image_id: str, names: Sequence[str], config: bytes, manifest: bytes, index: bytes
) -> ImageDescription:
    """Describe an image of a containerd store.

    :raises MalformedError, LimitError: the documents contradict each other, or cannot be moved.
    """
    layers: Sequence[Descriptor] = parse_manifest(manifest).layers
    diff_ids = diff_ids_of(config)
    if len(layers) != len(diff_ids):
        raise MalformedError("the image's manifest and configuration list different numbers of layers")
    described = tuple(
        LayerDescription(layer.digest, diff_id, layer.size) for layer, diff_id in zip(layers, diff_ids, strict=True)
    )
    image = ImageDescription(image_id, "containerd", tuple(names), described, config, manifest, index)
    check_consistent(image)
    return image


def from_config(image_id: str, names: Sequence[str], config: bytes, sizes: Mapping[str, int]) -> ImageDescription:
    """Describe an image of a classic store.

    :param sizes: bytes of each layer as a plain tar, by diff ID.
    :raises MalformedError, LimitError: the documents contradict each other.
    """
    layers = tuple(LayerDescription(diff_id, diff_id, sizes[diff_id]) for diff_id in diff_ids_of(config))
    image = ImageDescription(image_id, "classic", tuple(names), layers, config)
    check_consistent(image)
    return image


def _document(value: Mapping[str, Any], name: str) -> bytes:
    document = value.get(name)
    if not isinstance(document, bytes):
        raise MalformedError(f"the image's {name} is not a byte string")
    return document


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise MalformedError("the image's names must be a list of strings")
    if len(value) > NAMES_MAX:
        raise LimitError(f"the image has {len(value)} names, at most {NAMES_MAX} allowed")
    if len(set(value)) != len(value):
        raise MalformedError("a name of the image occurs twice")
    for name in value:
        split_name(name)
    return tuple(value)


def _layers(value: object) -> tuple[LayerDescription, ...]:
    if not isinstance(value, list):
        raise MalformedError("the image's layers must be a list")
    if len(value) > LAYERS_MAX:
        raise LimitError(f"the image has {len(value)} layers, at most {LAYERS_MAX} allowed")
    layers = []
    known: dict[str, LayerDescription] = {}
    for entry in value:
        if not isinstance(entry, dict):
            raise MalformedError("a layer's description is not a map")
        layer = LayerDescription(
            digest=check_digest(entry.get("digest"), "a layer's digest"),
            diff_id=check_digest(entry.get("diff_id"), "a layer's diff ID"),
            size=check_size(entry.get("size"), "a layer's size"),
        )
        if known.setdefault(layer.digest, layer) != layer:
            raise MalformedError("a layer occurs twice with different sizes or diff IDs")
        layers.append(layer)
    return tuple(layers)
