"""What a fuzzing target is, and where each is found."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from streamhop_protocol.errors import ProtocolError

ALLOWED = (ProtocolError,)


@dataclass(frozen=True)
class Target:
    """One decoder.

    :param run: decodes one input; asserts what must hold besides.
    :param seeds: valid inputs, from which a run begins.
    :param allowed: what the decoder may raise; all else is a finding.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    allowed: tuple[type[Exception], ...] = ALLOWED

    def survives(self, data: bytes) -> None:
        """Run, let pass what is allowed."""
        try:
            self.run(data)
        except self.allowed:
            return


MODULES = {
    "wire": ("connection", "session", "message", "signal", "value", "chunk"),
    "memory": ("page_batch", "page_image", "pagemap", "mm"),
    "trees": ("tree_records", "tree_apply"),
    "images": ("image_description", "image_document", "archive", "layer_blob"),
    "containers": ("manifest", "container", "findings"),
    "addresses": ("kept_addresses", "kept_answer"),
    "streams": ("receiving",),
    "peers": ("pairing_inviter", "pairing_guest", "token", "certificate", "peer_file"),
    "logs": ("criu_log",),
}
"""The module below ``fuzz.targets`` that has each target, so that a run loads no other."""

NAMES = tuple(name for names in MODULES.values() for name in names)


def load(name: str) -> Target:
    """The target of that name."""
    module = next(module for module, names in MODULES.items() if name in names)
    target = importlib.import_module(f"fuzz.targets.{module}").TARGETS[name]
    assert isinstance(target, Target)
    return target


def slices(data: bytes) -> Iterator[bytes]:
    """Cut an input as its first byte says: into pieces of that size, or not at all."""
    size = data[0] if data and data[0] else len(data) or 1
    for at in range(1, len(data), size):
        yield data[at : at + size]


def packed(value: Any) -> bytes:
    """msgpack of a structure that a harness, not the peer, defines."""
    result: bytes = msgpack.packb(value, use_bin_type=True)
    return result


def unpacked(data: bytes) -> Any:
    """The structure, or None: an input that is none says nothing about the decoder."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
