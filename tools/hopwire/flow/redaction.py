"""What a flow file leaves out of headers and messages: what is secret, and what containers keep to themselves.

A session's token is never kept. The rest is kept only if payloads are: the seed of hashes that tell pages apart, and
texts of a container's and an image's configuration, among them the environment with its passwords.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from streamhop_protocol.connection import Received
from streamhop_protocol.errors import ProtocolError
from streamhop_protocol.frames import Frame
from streamhop_protocol.messages import Offer, encode_message
from streamhop_protocol.signals import JOIN_TOKEN_BYTES, Join, Welcome, encode_signal

HIDDEN = "***"
_NO_TOKEN = bytes(JOIN_TOKEN_BYTES)
_HIDDEN_ATTRIBUTE = "hash_seed"
_SHOWN_OF_IMAGE = frozenset({"id", "store", "names", "layers"})


def redacted(frame: Frame, received: Received | None, *, keep_content: bool) -> tuple[bytes, bytes | memoryview] | None:
    """Header and payload of ``frame`` without what is secret; None if nothing of it is.

    :param received: what the frame says.
    :param keep_content: whether the file may hold what containers keep to themselves.
    """
    match received.body if received is not None else None:
        case Welcome() | Join() as body:
            _, header = encode_signal(replace(body, token=_NO_TOKEN))
            return header, frame.payload
        case Offer() as offer if not keep_content:
            hidden = replace(offer, manifest=_manifest(offer.manifest), attributes=_attributes(offer.attributes))
            try:
                _, header, payload = encode_message(hidden)
            except ProtocolError:  # longer than what it replaces: a peer's bad luck
                return b"", b""
            return header, payload
        case None if not keep_content:
            # Nobody knows what is in a frame that cannot be decoded.
            return b"", frame.payload
        case _:
            return None


def _attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    return {key: b"" if key == _HIDDEN_ATTRIBUTE else value for key, value in attributes.items()}


def _manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    shown = dict(manifest)
    if "request" in shown:
        shown["request"] = _hidden(shown["request"])
    image = shown.get("image")
    if isinstance(image, dict):
        shown["image"] = {key: value if key in _SHOWN_OF_IMAGE else _hidden(value) for key, value in image.items()}
    return shown


def _hidden(value: Any) -> Any:
    """The shape of ``value``: keys, numbers, lengths of lists, but no texts."""
    if isinstance(value, dict):
        return {key: _hidden(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    if isinstance(value, str):
        return HIDDEN if value else ""
    return b"" if isinstance(value, bytes) else value
