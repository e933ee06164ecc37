"""Who takes an image away again that came with a move: the last move that needs layers of it.

Moves to one host at once may be of one image, or of images that share layers. The first brings the layers, the others
are told that they are here already; if the first fails, they must not go. So each move notes in the journal which
layers it counts on, and what a failed move brought becomes the duty of another that counts on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streamhop.content.image_layers import ImageDescription, remove_brought

from .concurrency import in_worker
from .host import Host
from .journal import Record
from .states import Role

_SHORT = 12
"""Digits of a layer's digest that are noted. Layers taken for the same by chance only make an image stay longer."""


def layers_noted(image: ImageDescription) -> list[str]:
    """What the journal holds as ``layers`` of a move of this image."""
    return [diff_id.rpartition(":")[2][:_SHORT] for diff_id in image.diff_ids]


async def give_back(host: Host, move: bytes, *, keep: bool) -> None:
    """A move to this host needs no image layers any longer: take away what it brought, or leave that to another move.

    Safe to repeat. An image that is in use stays.

    :param keep: the container runs here, so its own image stays; images it took over from failed moves do not.
    :raises EngineError: Docker would not.
    :raises sqlite3.Error: the journal could not be read or written.
    """
    async with host.images:
        record = await in_worker(host.journal.latest, move, Role.TARGET)
        if record is None:
            return
        brought = _mapping(record, "images_taken_over")
        if keep:
            brought = {name: image for name, image in brought.items() if image != record.details.get("image")}
        else:
            brought |= _mapping(record, "image_loaded")
        # From here on nobody leaves anything to this one.
        await _note(host, move, gives_back=True)
        if not brought:
            return
        heir = _heir(await in_worker(host.journal.unsettled), record)
        if heir is not None:
            await _note(host, heir.move, images_taken_over=_mapping(heir, "images_taken_over") | brought)
        else:
            await remove_brought(host.engine, brought)
        await _note(host, move, images_taken_over={}, **({} if keep else {"image_loaded": {}}))


def _heir(unsettled: Iterable[Record], of: Record) -> Record | None:
    """A move to this host under way that counts on a layer that ``of`` counted on, too."""
    layers = _layers(of)
    others = (record for record in unsettled if record.role is Role.TARGET and record.move != of.move)
    return next((other for other in others if not other.details.get("gives_back") and layers & _layers(other)), None)


def _layers(record: Record) -> frozenset[str]:
    return frozenset(record.details.get("layers") or ())


def _mapping(record: Record, name: str) -> dict[str, str]:
    found: Any = record.details.get(name)
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


async def _note(host: Host, move: bytes, **details: Any) -> None:
    await in_worker(host.journal.note, move, Role.TARGET, **details)
