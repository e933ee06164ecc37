"""The root file system all hosts lie over."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .debian import SUITE, Overlay, debootstrap, install, require_tools, run_in
from .errors import LabError

HOST_PACKAGES = (
    "containerd",
    "criu",
    "docker-cli",
    "docker.io",
    "iproute2",
    "iptables",
    "nftables",
    "procps",
    "python3",
    "redis-tools",
    "runc",
)
_SHIM_SOURCE = Path(__file__).with_name("rlimit_shim.c")
_SHIM = "/usr/local/lib/hoplab/rlimit_shim.so"
_CAP_SYS_RESOURCE = 24
_RECIPE_VERSION = 1


def base_recipe() -> dict[str, Any]:
    """What decides how the small tree is made that images and hosts share."""
    return {"version": _RECIPE_VERSION, "suite": SUITE, "machine": platform.machine()}


def make_base(target: Path, mirror: str | None) -> None:
    """Make the small tree."""
    debootstrap(target, mirror)


def shim_needed() -> bool:
    """Whether CRIU lacks CAP_SYS_RESOURCE here, however much root it is."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return not int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1
    return False


def root_recipe() -> dict[str, Any]:
    """What decides how the root file system is made."""
    shim = _SHIM_SOURCE.read_text() if shim_needed() else None
    return {"base": base_recipe(), "packages": HOST_PACKAGES, "shim": shim}


def make_root(target: Path, base: Path) -> None:
    """Make the root file system of a host from the small tree."""
    ended = subprocess.run(
        ["cp", "--archive", "--reflink=auto", f"{base}/.", str(target)], capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise LabError(f"the base system cannot be copied: {ended.stderr.strip()}")
    install(target, HOST_PACKAGES)
    # Lists of packages serve nobody in a host.
    shutil.rmtree(target / "var/lib/apt/lists")
    (target / "opt/hoplab/site").mkdir(parents=True)
    (target / "opt/hoplab/service").mkdir()
    version = python_version(target)
    packages = target / f"usr/local/lib/python{version}/dist-packages"
    packages.mkdir(parents=True, exist_ok=True)
    # Programs of the host find the cached packages, and what is deployed, without being told.
    (packages / "hoplab.pth").write_text("/opt/streamhop\n/opt/hoplab/site\n")
    if shim_needed():
        _install_shim(target)


def python_version(root: Path | Overlay) -> str:
    """Version of the tree's Python as ``major.minor``."""
    return run_in(root, ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()


def _install_shim(target: Path) -> None:
    require_tools(["gcc"])
    library = target / _SHIM[1:]
    library.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(_SHIM_SOURCE), "-ldl"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise LabError(f"gcc cannot build the rlimit shim: {ended.stderr.strip().splitlines()[-1:]}")
    wrapper = target / "usr/local/sbin/criu"
    wrapper.write_text(f'#!/bin/sh\nLD_PRELOAD={_SHIM} exec /usr/sbin/criu "$@"\n')
    wrapper.chmod(0o755)
