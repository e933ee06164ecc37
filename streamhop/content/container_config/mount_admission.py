"""At the target: which volumes and binds may a container have that comes from a peer?"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streamhop.findings import Finding, found, shown

from .mounts import BIND, Mount, is_below, is_plain, mounts_of

NEVER_BOUND = ("/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/var/lib/docker", "/var/lib/containerd")
"""Parts of a host whose hold is the host: no policy lets a peer have them, or what they are in, or what is in them."""

_NEVER_COVERED = ("/proc", "/sys", "/dev")
"""Where a container has the kernel's own file systems."""

_OPTIONS = frozenset({"ro", "nocopy"})
_SOCKET = "docker.sock"


def mount_refusals(body: Mapping[str, Any], *, volumes: bool, binds: Sequence[str]) -> Iterator[Finding]:
    """Every volume and bind of a request that this host does not grant.

    :param volumes: whether volumes may be made here.
    :param binds: directories at or below which binds may be.
    """
    driver = body["HostConfig"].get("VolumeDriver", "")
    if driver not in ("", "local"):
        yield _refusal("volume", f"volumes of the driver {shown(driver)!r}")
    for mount in mounts_of(body):
        if not _may_be_covered(mount.destination):
            yield _refusal("mount", f"a {mount.kind} at {shown(mount.destination)!r}")
        elif unknown := mount.options - _OPTIONS:
            yield _refusal("mount", f"the option {shown(min(unknown))!r} of a {mount.kind}")
        elif mount.kind == BIND:
            yield from _bind_refusals(mount, binds)
        elif not volumes:
            yield _refusal("volume", f"the volume at {shown(mount.destination)}", "volumes = true")


def may_be_bound(path: str) -> bool:
    """Whether any policy could let a peer have a path of this host."""
    reaches = any(is_below(path, place) or is_below(place, path) for place in NEVER_BOUND)
    return is_plain(path) and path != "/" and not reaches and posixpath.basename(path) != _SOCKET


def _bind_refusals(mount: Mount, binds: Sequence[str]) -> Iterator[Finding]:
    if not may_be_bound(mount.source):
        yield _refusal("bind", f"the bind of {shown(mount.source)}: it would hold this host")
    elif not any(is_below(mount.source, allowed) for allowed in binds):
        yield _refusal("bind", f"the bind of {shown(mount.source)}", f"binds = [{shown(mount.source)!r}]")


def _may_be_covered(destination: str) -> bool:
    if not is_plain(destination) or not destination.isprintable():
        return False
    return destination != "/" and not any(is_below(destination, place) for place in _NEVER_COVERED)


def _refusal(kind: str, what: str, key: str = "") -> Finding:
    fix = f"allow it in [policy] at the target: {key}" if key else "change it at the source: no policy allows it"
    return found(f"policy.{kind}", f"the target's policy does not allow {what}", fix)
