"""Debian trees: debootstrap, and packages installed in a chroot of its own mount namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError
from .namespaces import CLONE_FS, CLONE_NEWNS, MS_BIND, MS_PRIVATE, MS_REC, in_thread, mount, unshare

SUITE = "forky"
_SCRIPTS = Path("/usr/share/debootstrap/scripts")
_TIMEOUT_S = 1800
# Stored release files may be past their date; the packages are no worse for it.
_APT = ("apt-get", "-q", "-y", "-o", "Acquire::Check-Valid-Until=false", "-o", "Acquire::Retries=3")
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NOWARNINGS": "yes",
}
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

_DPKG_OPTIONS = """\
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
"""


@dataclass(frozen=True, slots=True)
class Overlay:
    """A tree over which changes are collected elsewhere."""

    lower: Path
    upper: Path
    work: Path
    merged: Path


def require_tools(names: Iterable[str]) -> None:
    """:raises LabError: one of the programs is not installed."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise LabError(f"not installed: {', '.join(missing)}; `apt-get install {' '.join(missing)}`, or `make setup`")


def _environment() -> dict[str, str]:
    return {**_ENVIRONMENT, **{name: os.environ[name] for name in _PROXIES if name in os.environ}}


def _checked(ended: subprocess.CompletedProcess[str], what: str) -> str:
    if ended.returncode != 0:
        lines = [line for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith(("E:", "W: Failure", "dpkg: error"))] or lines[-3:]
        raise LabError(f"{what} failed ({ended.returncode}): {' | '.join(telling[-3:])}")
    return ended.stdout


def debootstrap(target: Path, mirror: str | None) -> None:
    """Make a small Debian tree in the empty directory ``target``.

    :raises LabError: it cannot be made.
    """
    require_tools(["debootstrap", "unshare"])
    script = _SCRIPTS / SUITE
    if not script.exists():
        # An older debootstrap does not know the name yet; the steps are those of unstable.
        script = _SCRIPTS / "sid"
    # Its own mount namespace: what debootstrap mounts in the tree is gone with it, come what may.
    command = ["unshare", "--mount", "--propagation", "private", "debootstrap", "--variant=minbase"]
    arguments = [SUITE, str(target), mirror or "", str(script)]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        full = [*command, *options, *arguments]
        return subprocess.run(full, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S, env=_environment())

    ended = run()
    if ended.returncode != 0 and "unknown key" in ended.stdout + ended.stderr:
        # The machine's keyring is older than the key that signs the suite.
        shutil.rmtree(target)
        target.mkdir()
        ended = run("--no-check-gpg")
    _checked(ended, "debootstrap")
    (target / "etc/dpkg/dpkg.cfg.d/hoplab").write_text(_DPKG_OPTIONS)
    policy = target / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")  # no package starts a service while it is installed
    policy.chmod(0o755)
    run_in(target, [*_APT, "update"])


def run_in(root: Path | Overlay, command: Sequence[str]) -> str:
    """Run a program with ``root`` as its root, with /proc, /dev and the machine's resolver; returns its output.

    :raises LabError: it failed.
    """

    def work() -> subprocess.CompletedProcess[str]:
        # Only this thread and its children see what is mounted here.
        unshare(CLONE_NEWNS | CLONE_FS)
        mount("", "/", flags=MS_REC | MS_PRIVATE)
        top = root if isinstance(root, Path) else root.merged
        if isinstance(root, Overlay):
            layers = f"lowerdir={root.lower},upperdir={root.upper},workdir={root.work}"
            mount("overlay", top, "overlay", options=layers)
        mount("proc", top / "proc", "proc")
        mount("/dev", top / "dev", flags=MS_BIND | MS_REC)
        for name in ("etc/resolv.conf", "etc/hosts"):
            with suppress(OSError):  # either may be missing; names may be found without it
                mount(f"/{name}", top / name, flags=MS_BIND)
        os.chroot(top)
        os.chdir("/")
        return subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
            env=_environment(),
        )

    try:
        return _checked(in_thread(work), " ".join(command[:1]))
    except OSError as error:
        raise LabError(
            f"{error.strerror}: {error.filename} (building needs root and a file system for overlays)"
        ) from error


def install(root: Path | Overlay, packages: Sequence[str]) -> None:
    """Install Debian packages in a tree.

    :raises LabError: they cannot be installed.
    """
    run_in(root, [*_APT, "install", "--no-install-recommends", *packages])
    run_in(root, ["apt-get", "clean"])
