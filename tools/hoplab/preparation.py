"""Everything a lab needs and that takes long to make: found in the cache, or made."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .apt_sources import machine_mirror
from .cache import Cache, recipe_key
from .errors import LabError
from .images import BASE_IMAGE, image_recipe, make_base_image, make_service_image
from .python_site import make_site, requirements_path, site_recipe
from .rootfs import base_recipe, make_base, make_root, python_version, root_recipe
from .services import SERVICES, Service, find_service
from .settings import Settings, settings

Report = Callable[[str], None]


def _silent(_text: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Prepared:
    """What every host needs."""

    root: Path
    """Root file system."""

    site: Path
    """Python packages for the hosts' Python."""


def require_root() -> None:
    """:raises LabError: this program is not root."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: run it with sudo")


def _base(cache: Cache, where: Settings) -> Path:
    mirror = where.mirror or machine_mirror()
    return cache.get("base", recipe_key(base_recipe()), lambda to: make_base(to, mirror), "a small Debian system")


def prepare(where: Settings | None = None, report: Report = _silent) -> Prepared:
    """What every host needs; made if the cache lacks it.

    :param report: told what is being made.
    :raises LabError: it cannot be made.
    """
    require_root()
    where = where or settings()
    cache = Cache(where.cache, report)
    root = cache.get(
        "root",
        recipe_key(root_recipe()),
        lambda to: make_root(to, _base(cache, where)),
        "the hosts' root file system",
    )
    lock = requirements_path()
    version = python_version(root)
    site = cache.get(
        "site",
        recipe_key(site_recipe(lock.read_text(), version)),
        lambda to: make_site(to, lock, version),
        f"the hosts' Python {version} packages",
    )
    return Prepared(root, site)


def prepare_image(name: str | Service, where: Settings | None = None, report: Report = _silent) -> Path:
    """The archive of a service's image, for ``docker load``; ``base`` names the image all others are made from.

    :param name: one of the lab's services, or a service of the caller's own.

    :raises UsageError: there is no such service.
    :raises LabError: it cannot be made.
    """
    require_root()
    where = where or settings()
    cache = Cache(where.cache, report)
    base_image = cache.get(
        "image-base",
        recipe_key(image_recipe(base_recipe(), None)),
        lambda to: make_base_image(to, _base(cache, where)),
        f"the image {BASE_IMAGE}",
    )
    if name == "base":
        return base_image / "image.tar"
    service = find_service(name)
    return _service_image(cache, where, service, base_image) / "image.tar"


def _service_image(cache: Cache, where: Settings, service: Service, base_image: Path) -> Path:
    return cache.get(
        f"image-{service.name}",
        recipe_key(image_recipe(base_recipe(), service)),
        lambda to: make_service_image(to, _base(cache, where), base_image, service),
        f"the image {service.image}",
    )


def prepare_all(where: Settings | None = None, report: Report = _silent) -> dict[str, str]:
    """Everything there is, as name -> path.

    :raises LabError: something cannot be made.
    """
    where = where or settings()
    require_root()
    _base(Cache(where.cache, report), where)
    # Most of it is waiting for the mirror and for dpkg: two things at a time are twice as fast.
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="hoplab-prepare") as pool:
        host = pool.submit(prepare, where, report)
        images = {name: pool.submit(prepare_image, name, where, report) for name in ("base", *SERVICES)}
        prepared = host.result()
        paths = {name: future.result() for name, future in images.items()}
    return {
        "root": str(prepared.root),
        "site": str(prepared.site),
        **{f"image-{name}": str(path) for name, path in paths.items()},
    }
