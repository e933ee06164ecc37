"""Finds the Wireshark dissector that comes with hopwire, and the folder where Wireshark looks for a user's own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from hopwire.errors import WireError

NAME = "streamhop.lua"
_INSTALLED = Path(__file__).with_name(NAME)
_IN_THE_SOURCES = Path(__file__).parents[2] / "protocol" / "wireshark" / NAME

_OURS = b"-- Wireshark dissector of the streamhop protocol"
"""Its first line begins so, in every version."""

_FOLDER = "Personal Lua Plugins:"
"""Tells the folder in what ``tshark -G folders`` prints."""


def dissector() -> Path:
    """The file: beside this module in a wheel, in its own room in the sources.

    :raises WireError: it is in neither place.
    """
    for path in (_INSTALLED, _IN_THE_SOURCES):
        if path.is_file():
            return path
    raise WireError(f"{NAME} did not come with this installation")


def plugin_folder() -> Path:
    """Where Wireshark looks for Lua files of this user: as tshark says, or else where it does by default."""
    try:
        said = subprocess.run(["tshark", "-G", "folders"], capture_output=True, text=True, check=False).stdout
    except OSError:
        said = ""
    for line in said.splitlines():
        if line.startswith(_FOLDER):
            return Path(line.removeprefix(_FOLDER).strip())
    return Path.home() / ".local" / "lib" / "wireshark" / "plugins"


def install(folder: Path, *, force: bool = False) -> Path:
    """Copy the dissector into ``folder``, over an older one of ours; returns where it is.

    :param force: over any other file of that name, too.
    :raises WireError: another file is there, or it cannot be written.
    """
    target = folder / NAME
    content = dissector().read_bytes()
    try:
        if not force and target.exists() and not target.read_bytes().startswith(_OURS):
            raise WireError(f"{target} is there and is another one: --force puts this one in its place")
        folder.mkdir(parents=True, exist_ok=True)
        # Wireshark may be starting: it finds the old one or the new one.
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{NAME}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise WireError(f"{target}: {error.strerror}") from error
    return target
