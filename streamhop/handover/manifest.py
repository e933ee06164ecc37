"""What the source says about a container in its OFFER, and the target checks before it believes any of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamhop.content.container_config import CreationRequest, NetworkDescription, mounts_of, networks_from_wire
from streamhop.content.image_layers import ImageDescription
from streamhop.engine.cpu_features import FEATURE, FEATURES_MAX
from streamhop_protocol.errors import LimitError, MalformedError

CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
"""What Docker accepts as a name."""

ROOTFS_TREE = "rootfs"
SHM_TREE = "mount:/dev/shm"

VOLUMES_MAX = 64
_LABELS_MAX = 256
_LABEL_CHARACTERS_MAX = 4096

_MEMORY_BYTES_MAX = 1 << 50
_VERSIONS_MAX = 16
_DESCRIPTORS_MAX = 3
_TEXT_CHARACTERS_MAX = 256


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything the target needs to say yes or no, and to get ready."""

    container: str
    """The container's name at the source, without the slash."""

    architecture: str
    """As ``uname -m`` prints it; a memory image only fits its own."""

    page_size: int
    memory_bytes: int
    """Resident memory at the time of the offer; an estimate, for the target's disk and policy."""

    trees: tuple[str, ...]
    descriptors: tuple[str, ...]
    """What the first process was given as input, output and errors, as runc notes it; runc at the target reads it."""

    versions: Mapping[str, str]
    image: ImageDescription
    image_name: str
    """What the container calls its image; the target uses it only if it means this image there too."""

    request: CreationRequest
    cpu: tuple[str, ...] = ()
    """Features of the source's processor, see :mod:`streamhop.engine.cpu_features`; empty: not known."""

    volumes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels of the volumes that have names of their own."""

    networks: tuple[NetworkDescription, ...] = ()
    """How its networks are made that are not Docker's own, for a target that lacks them."""

    def to_wire(self) -> dict[str, Any]:
        """The manifest as maps, lists, strings and numbers."""
        return {
            "container": self.container,
            "architecture": self.architecture,
            "page_size": self.page_size,
            "memory_bytes": self.memory_bytes,
            "trees": list(self.trees),
            "descriptors": list(self.descriptors),
            "versions": dict(self.versions),
            "image": self.image.to_wire(),
            "image_name": self.image_name,
            "request": self.request.to_wire(),
            "cpu": list(self.cpu),
            "volumes": {name: dict(labels) for name, labels in self.volumes.items()},
            "networks": [network.to_wire() for network in self.networks],
        }

    @classmethod
    def from_wire(cls, value: object) -> Manifest:
        """Check a peer's manifest.

        :raises MalformedError: a field is missing or of the wrong kind.
        :raises LimitError: a number or count is over its bound.
        """
        if not isinstance(value, dict):
            raise MalformedError("the manifest is not a map")
        container = _text(value, "container")
        if not CONTAINER_NAME.fullmatch(container):
            raise MalformedError("container is not a name that Docker accepts")
        request = CreationRequest.from_wire(value.get("request"))
        descriptors = value.get("descriptors")
        if not isinstance(descriptors, list) or not all(isinstance(entry, str) for entry in descriptors):
            raise MalformedError("descriptors must be a list of strings")
        if len(descriptors) > _DESCRIPTORS_MAX or any(len(entry) > _TEXT_CHARACTERS_MAX for entry in descriptors):
            raise LimitError("descriptors must be three short strings at most")
        versions = value.get("versions")
        if not isinstance(versions, dict) or len(versions) > _VERSIONS_MAX:
            raise MalformedError("versions must be a small map")
        return cls(
            container=container,
            architecture=_text(value, "architecture"),
            page_size=_number(value, "page_size", 1 << 20),
            memory_bytes=_number(value, "memory_bytes", _MEMORY_BYTES_MAX),
            trees=_trees(value.get("trees"), request),
            descriptors=tuple(descriptors),
            versions={name: _text(versions, name) for name in versions},
            image=ImageDescription.from_wire(value.get("image")),
            image_name=_text(value, "image_name"),
            request=request,
            cpu=_features(value.get("cpu", [])),
            volumes=_volumes(value.get("volumes", {})),
            networks=networks_from_wire(value.get("networks", [])),
        )


def tree_of(destination: str) -> str:
    """The tree of what is mounted at ``destination`` in the container."""
    return f"mount:{destination}"


def _trees(value: object, request: CreationRequest) -> tuple[str, ...]:
    """Names decide where the target writes: none but those of what the container has."""
    known = {ROOTFS_TREE, SHM_TREE} | {tree_of(mount.destination) for mount in mounts_of(request.body)}
    if not isinstance(value, list) or not all(isinstance(tree, str) for tree in value):
        raise MalformedError("trees must be a list of names")
    if len(set(value)) != len(value) or not known.issuperset(value):
        raise MalformedError("trees must be distinct: rootfs, and those of volumes and binds of the container")
    return tuple(value)


def _volumes(value: object) -> dict[str, dict[str, str]]:
    if not isinstance(value, dict) or not all(isinstance(labels, dict) for labels in value.values()):
        raise MalformedError("volumes must be a map of maps")
    if len(value) > VOLUMES_MAX or sum(len(labels) for labels in value.values()) > _LABELS_MAX:
        raise LimitError("too many volumes, or labels of volumes")
    for labels in value.values():
        if not all(isinstance(text, str) for item in labels.items() for text in item):
            raise MalformedError("labels of volumes must be strings")
        if any(len(text) > _LABEL_CHARACTERS_MAX for item in labels.items() for text in item):
            raise LimitError("a label of a volume is too long")
    return {name: dict(labels) for name, labels in value.items()}


def _features(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise MalformedError("cpu must be a list")
    if len(value) > FEATURES_MAX:
        raise LimitError(f"cpu has {len(value)} entries, at most {FEATURES_MAX} allowed")
    if not all(isinstance(name, str) and FEATURE.fullmatch(name) for name in value):
        raise MalformedError("cpu must be a list of names of features")
    return tuple(value)


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str):
        raise MalformedError(f"{name} must be a string")
    if len(text) > _TEXT_CHARACTERS_MAX:
        raise LimitError(f"{name} is {len(text)} characters long, at most {_TEXT_CHARACTERS_MAX} allowed")
    return text


def _number(value: Mapping[str, Any], name: str, most: int) -> int:
    number = value.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise MalformedError(f"{name} must be a whole number, not negative")
    if number > most:
        raise LimitError(f"{name} is {number}, at most {most} allowed")
    return number
