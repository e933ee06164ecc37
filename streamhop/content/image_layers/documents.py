"""The JSON documents of an image: configuration, manifest, index. Parsed and checked, never changed.

Sources: OCI image specification 1.1 (config.md, manifest.md, image-index.md, descriptor.md) and, for what Docker's
own media types are called, distribution's manifest specification 2.2.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamhop_protocol.errors import LimitError, MalformedError
from streamhop_protocol.limits import CONTAINERS_MAX, MIB

DOCUMENTS_BYTES_MAX = 4 * MIB
"""All documents of one image together; containerd takes 8 MiB for each."""

LAYERS_MAX = 512
"""overlayfs takes 500 lower directories at most, Docker 127 layers."""

LAYER_BYTES_MAX = 1 << 44

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
LAYER_TYPES = frozenset(
    {
        OCI_LAYER,
        f"{OCI_LAYER}+gzip",
        f"{OCI_LAYER}+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    }
)
"""Layers that every engine can unpack. Foreign layers, which are fetched from elsewhere, are not among them."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def check_digest(value: object, what: str) -> str:
    """``value`` if it is ``sha256:`` and 64 lower-case hexadecimal digits.

    :raises MalformedError: it is anything else; Docker uses no other algorithm.
    """
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise MalformedError(f"{what} is not a SHA-256 digest")
    return value


def check_size(value: object, what: str) -> int:
    """``value`` if it can be the size of a layer.

    :raises MalformedError: not a whole number.
    :raises LimitError: larger than any file.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise MalformedError(f"{what} must be a whole number, not negative")
    if value > LAYER_BYTES_MAX:
        raise LimitError(f"{what} is over {LAYER_BYTES_MAX} bytes")
    return value


def digest_of(document: bytes) -> str:
    """The digest that Docker knows ``document`` by."""
    return f"sha256:{hashlib.sha256(document).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest or index says about one blob."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class ParsedManifest:
    """A manifest: where the configuration and the layers are."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def diff_ids_of(config: bytes) -> tuple[str, ...]:
    """Digests of the uncompressed layers that an image's configuration lists, lowest first.

    :raises MalformedError, LimitError: it is not a configuration.
    """
    rootfs = _field(_parse(config, "the image's configuration"), "rootfs")
    if not isinstance(rootfs, dict):
        raise MalformedError("the image's configuration has no rootfs")
    diff_ids = _list(_field(rootfs, "diff_ids"), "rootfs.diff_ids")
    return tuple(check_digest(diff_id, "an entry of rootfs.diff_ids") for diff_id in diff_ids)


def parse_manifest(manifest: bytes) -> ParsedManifest:
    """Read a manifest of one platform.

    :raises MalformedError, LimitError: it is not one, or has layers that cannot be moved.
    """
    document = _parse(manifest, "the image's manifest")
    if _field(document, "mediaType") not in (*MANIFEST_TYPES, None):
        raise MalformedError("the image's manifest is of an unknown media type")
    layers = tuple(
        _descriptor(entry, "a layer") for entry in _list(_field(document, "layers"), "the manifest's layers")
    )
    for layer in layers:
        if layer.media_type not in LAYER_TYPES:
            raise MalformedError(f"a layer is of media type {layer.media_type[:100]!r}, which cannot be moved")
    return ParsedManifest(config=_descriptor(_field(document, "config"), "the configuration"), layers=layers)


def parse_index(index: bytes) -> tuple[Descriptor, ...]:
    """Descriptors of the manifests that an index lists.

    :raises MalformedError, LimitError: it is not an index.
    """
    document = _parse(index, "the image's index")
    if _field(document, "mediaType") not in (*INDEX_TYPES, None):
        raise MalformedError("the image's index is of an unknown media type")
    return tuple(
        _descriptor(entry, "a manifest") for entry in _list(_field(document, "manifests"), "the index's manifests")
    )


def build_manifest(config: bytes, layers: Sequence[Descriptor]) -> bytes:
    """A manifest for an image whose source had none. The same arguments give the same bytes, hence the same digest."""
    return _dump(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in layers],
        }
    )


def build_index(media_type: str, root: bytes) -> bytes:
    """``index.json`` of an archive that holds one image, without a name, whose root document is ``root``."""
    return _dump(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{"mediaType": media_type, "digest": digest_of(root), "size": len(root)}],
        }
    )


def build_archive_list(config_path: str, layer_paths: Sequence[str]) -> bytes:
    """``manifest.json`` of an archive as ``docker load`` takes it, with one image that has no name."""
    return _dump([{"Config": config_path, "RepoTags": None, "Layers": list(layer_paths)}])


def media_type_of(document: bytes, otherwise: str) -> str:
    """The media type that a manifest or index gives itself, ``otherwise`` if it gives none."""
    media_type = _field(_parse(document, "the image's root document"), "mediaType")
    return media_type if isinstance(media_type, str) and media_type else otherwise


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedError("a key occurs twice in a document of the image")
    return result


def _parse(document: bytes, what: str) -> dict[str, Any]:
    if len(document) > DOCUMENTS_BYTES_MAX:
        raise LimitError(f"{what} has {len(document)} bytes, at most {DOCUMENTS_BYTES_MAX} allowed")
    if document.count(b"{") + document.count(b"[") > CONTAINERS_MAX:
        raise LimitError(f"{what} has more than {CONTAINERS_MAX} lists and objects")
    try:
        # Decoded here: the parser would take UTF-16 and UTF-32 too, which nothing else that reads it does.
        value = json.loads(document.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError as error:
        raise LimitError(f"{what} is nested too deep") from error
    except ValueError as error:
        raise MalformedError(f"{what} is not JSON") from error
    if not isinstance(value, dict):
        raise MalformedError(f"{what} is not a JSON object")
    return value


def _field(document: Mapping[str, Any], name: str) -> Any:
    # Go's decoder, which Docker reads these documents with, takes a key in any case for the field.
    if any(key != name and key.casefold() == name.casefold() for key in document):
        raise MalformedError(f"a document of the image spells {name!r} in another way")
    return document.get(name)


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedError(f"{what} must be a list")
    if len(value) > LAYERS_MAX:
        raise LimitError(f"{what} has {len(value)} entries, at most {LAYERS_MAX} allowed")
    return value


def _descriptor(value: object, what: str) -> Descriptor:
    if not isinstance(value, dict):
        raise MalformedError(f"the descriptor of {what} is not an object")
    media_type = _field(value, "mediaType")
    if not isinstance(media_type, str):
        raise MalformedError(f"the media type of {what} is not a string")
    return Descriptor(
        media_type=media_type,
        digest=check_digest(_field(value, "digest"), f"the digest of {what}"),
        size=check_size(_field(value, "size"), f"the size of {what}"),
    )
