"""What runc keeps about a container in its state directory."""

from __future__ import annotations

import json
from pathlib import Path

DESCRIPTORS_FILE = "descriptors.json"
"""What a restore by runc reads from the directory of images before CRIU begins: the list of :func:`descriptors`."""

_STATE_BYTES_MAX = 64 * 1024 * 1024


class RuncStateError(Exception):
    """runc's state of the container cannot be read; the text says why."""


def descriptors(runc_root: Path, container_id: str) -> list[str]:
    """What the container's first process was given as its input, output and errors, such as ``pipe:[1234]``.

    Source: runc, libcontainer/container_linux.go (State, ``external_descriptors``) and criu_linux.go
    (``descriptors.json``).

    :param runc_root: the state directory of the container's runtime, see :func:`.docker.runc_root`.
    :raises RuncStateError:
    """
    path = runc_root / container_id / "state.json"
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_STATE_BYTES_MAX))["external_descriptors"]
    except OSError as error:
        raise RuncStateError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RuncStateError(f"{path} is not what runc writes") from error
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise RuncStateError(f"{path} is not what runc writes")
    return found
