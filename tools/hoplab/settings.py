"""Where the lab keeps things. Read from the environment when asked, never at import."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import UsageError

_LAB_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,22}[a-z0-9])?")
_HOST_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?")

NETNS_DIR = Path("/run/netns")
SEGMENT = "segment"
"""Name of the shared network for containers, and of the namespace that holds its bridge."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Directories of the lab."""

    cache: Path
    """Root file systems, Python packages and service images; kept for the next lab."""

    run: Path
    """State of the labs that are up."""

    data: Path
    """What hosts write; removed with the lab."""

    mirror: str | None
    """Debian mirror asked for; ``None``: the machine's own."""


def settings() -> Settings:
    """The settings the environment asks for: HOPLAB_CACHE, HOPLAB_RUN, HOPLAB_DATA, HOPLAB_MIRROR."""
    environment = os.environ
    return Settings(
        cache=Path(environment.get("HOPLAB_CACHE") or "/var/cache/hoplab"),
        run=Path(environment.get("HOPLAB_RUN") or "/run/hoplab"),
        data=Path(environment.get("HOPLAB_DATA") or "/var/lib/hoplab"),
        mirror=environment.get("HOPLAB_MIRROR") or None,
    )


def check_lab_name(name: str) -> str:
    """:raises UsageError: ``name`` cannot name a lab."""
    if not _LAB_NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a lab: up to 24 of a-z, 0-9 and -")
    return name


def check_host_name(name: str) -> str:
    """:raises UsageError: ``name`` cannot name a host."""
    if not _HOST_NAME.fullmatch(name) or name in (SEGMENT, "localhost"):
        raise UsageError(f"{name!r} cannot name a host: up to 32 of a-z, 0-9 and -, starting with a letter")
    return name


def netns_prefix(lab: str) -> str:
    """How the names of the lab's network namespaces begin. No lab's prefix begins another's: names hold no dot."""
    return f"hoplab.{lab}."


def netns_name(lab: str, host: str) -> str:
    """Name of a host's network namespace."""
    return netns_prefix(lab) + host


def netns_path(name: str) -> Path:
    """Where the namespace ``name`` is mounted, as ip-netns(8) does."""
    return NETNS_DIR / name


def cgroup_parent(lab: str, host: str) -> str:
    """Cgroup below which a host's containers live."""
    return f"/hoplab.{lab}.{host}"
