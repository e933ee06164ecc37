"""Compares the images of a container's processes with what its configuration grants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from streamhop_protocol.errors import MalformedError

from .admitted import Admitted
from .places import place_refusals
from .processes import process_refusals

REFUSALS_MAX = 16
"""How many are collected; images can hold millions."""

_CONFIG_BYTES_MAX = 16 * 1024 * 1024
_SHOWN_CHARACTERS_MAX = 120


class ImagesRefusedError(Exception):
    """The processes' images ask for more than the container's configuration grants."""


def admit_images(image_dir: Path, admitted: Admitted) -> list[str]:
    """What the images ask for and the configuration does not grant; an empty list if they may be restored.

    Blocks for some milliseconds.

    :param image_dir: an image, complete but for its memory, that nobody but this host changes any more.
    :returns: at most :data:`REFUSALS_MAX`, safe to print.
    :raises ProtocolError: the images are not what CRIU writes.
    :raises OSError: one cannot be read.
    """
    try:
        found = chain(place_refusals(image_dir, admitted), process_refusals(image_dir, admitted))
        return [ascii(text)[1:-1][:_SHOWN_CHARACTERS_MAX] for text in islice(found, REFUSALS_MAX)]
    except FileNotFoundError as error:
        raise MalformedError(f"an image is missing: {Path(error.filename).name}") from error


def check_images(image_dir: Path, bundle: Path) -> None:
    """Refuse images that go beyond the configuration in ``bundle``, which this host's Docker wrote; blocks.

    :raises ImagesRefusedError: what :func:`admit_images` finds.
    :raises ProtocolError: the images are not what CRIU writes.
    :raises OSError: something cannot be read.
    """
    with (bundle / "config.json").open("rb") as file:
        config: Mapping[str, Any] = json.loads(file.read(_CONFIG_BYTES_MAX))
    if refusals := admit_images(image_dir, Admitted.from_config(config)):
        raise ImagesRefusedError(f"the processes' images ask for what was not granted: {'; '.join(refusals)}")
