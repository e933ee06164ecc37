"""Programs of Debian's that hosts lack; made once, when somebody first asks for them."""

from __future__ import annotations

import shutil
import stat
import tarfile
from pathlib import Path

from .cache import Cache, recipe_key
from .debian import Overlay, install, run_in
from .host import Host
from .preparation import prepare
from .rootfs import root_recipe
from .settings import settings

_TAKEN = ("etc", "usr")
_VERSION = 1


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what an overlay marks as deleted, and keys that each host makes for itself."""
    return None if member.ischr() or "/ssh_host_" in member.name else member


def tools_archive(packages: tuple[str, ...]) -> Path:
    """What Debian packages add to a host's root file system, as a tar archive; made if the cache lacks it.

    :raises LabError: they cannot be installed.
    """
    root = prepare().root

    def make(target: Path) -> None:
        overlay = Overlay(root, target / "upper", target / "work", target / "merged")
        for directory in (overlay.upper, overlay.work, overlay.merged):
            directory.mkdir()
        # The root file system has no lists, and those it was made from may be old by now.
        run_in(overlay, ["apt-get", "-q", "-o", "Acquire::Check-Valid-Until=false", "update"])
        install(overlay, packages)
        for name in ("hosts", "hostname", "resolv.conf"):
            (overlay.upper / "etc" / name).unlink(missing_ok=True)
        with tarfile.open(target / "files.tar", "w") as archive:
            for name in _TAKEN:
                if stat.S_ISDIR((overlay.upper / name).lstat().st_mode):
                    archive.add(overlay.upper / name, arcname=name, filter=_plain)
        for directory in (overlay.upper, overlay.work, overlay.merged):
            shutil.rmtree(directory)

    recipe = {"version": _VERSION, "root": root_recipe(), "packages": packages}
    cache = Cache(settings().cache, lambda _: None)
    return cache.get("tools", recipe_key(recipe), make, f"{', '.join(packages)} for the hosts") / "files.tar"


def install_tools(host: Host, packages: tuple[str, ...]) -> None:
    """Put the packages into a host.

    :raises LabError: they cannot be had, or the host cannot take them.
    """
    with tools_archive(packages).open("rb") as file:
        host.feed(["tar", "-x", "-C", "/", "--keep-directory-symlink"], file)
    host.exec(["ldconfig"])
