"""Real services to migrate: what they are made of and how they start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import LabError, UsageError
from .processes import wait_for

if TYPE_CHECKING:
    from .host import Host

_SERVES_S = 60.0
_LISTEN = "0A"
_ANY = "0.0.0.0"  # noqa: S104 - inside a container, to be reached from outside it
_FILES = Path(__file__).with_name("service_files")

PYTHON_SITE = "/opt/python"
"""Where an image has its Python packages that are not Debian's."""


@dataclass(frozen=True, slots=True)
class Service:
    """One image and its default start."""

    name: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    port: int
    files: dict[str, str] = field(default_factory=dict)
    """Path in the image -> file in ``service_files``, or an absolute path; executable where it begins with ``#!``."""

    before: dict[str, str] = field(default_factory=dict)
    """Path in the image -> text that is there before the packages are installed."""

    ready: tuple[str, ...] = ()
    """Command in the container that succeeds once it serves; a port it listens on says enough for most."""

    volatile: tuple[str, ...] = ()
    """Directories to make, which packages expect the boot to make."""

    wheels: tuple[str, ...] = ()
    """Python packages besides, as pip names them, in :data:`PYTHON_SITE`; there must be wheels of them."""

    sources: tuple[str, ...] = ()
    """Python packages likewise of which there is only the source; pure Python and data."""

    @property
    def image(self) -> str:
        """Name and tag of its image."""
        return f"hoplab-{self.name}:1"

    def contents(self) -> dict[str, str]:
        """Path in the image -> content."""
        return {path: (_FILES / name).read_text() for path, name in self.files.items()}


_ALL = (
    Service(
        "redis",
        ("redis-server",),
        ("redis-server", "--save", "", "--appendonly", "no", "--protected-mode", "no", "--bind", _ANY),
        6379,
    ),
    Service(
        "nginx",
        ("nginx",),
        ("nginx", "-c", "/etc/hoplab/nginx.conf"),
        80,
        files={"/etc/hoplab/nginx.conf": "nginx.conf", "/srv/www/index.html": "index.html"},
    ),
    Service(
        "postgres",
        ("postgresql",),
        ("/usr/local/bin/postgres-start",),
        5432,
        files={"/usr/local/bin/postgres-start": "postgres-start"},
        # The cluster is made when the container starts, in its writable layer.
        before={"/etc/postgresql-common/createcluster.conf": "create_main_cluster = false\n"},
        ready=("pg_isready", "--quiet"),
        volatile=("/run/postgresql",),
    ),
    Service(
        "python",
        ("python3-minimal", "libpython3-stdlib"),
        ("/usr/local/bin/counter-service",),
        8080,
        files={"/usr/local/bin/counter-service": "counter-service"},
    ),
)
SERVICES = {service.name: service for service in _ALL}


def find_service(name: str | Service) -> Service:
    """The service of that name; one that is not of the lab's is taken as it is.

    :raises UsageError: there is no such service.
    """
    if isinstance(name, Service):
        return name
    if name not in SERVICES:
        raise UsageError(f"there is no service {name!r}: {', '.join(SERVICES)}")
    return SERVICES[name]


def load_image(host: Host, image: str, archive: Path) -> None:
    """Load an image into the host's Docker, unless it is there.

    :raises LabError: it cannot be loaded.
    """
    if host.docker("image", "ls", "--quiet", image):
        return
    with archive.open("rb") as file:
        host.feed(["docker", "load", "--quiet"], file)


def run_service(
    host: Host, service: Service, archive: Path, *, name: str | None, publish: bool, options: tuple[str, ...]
) -> str:
    """Start a service in a container of the host and wait until it serves; returns the container's ID.

    :raises LabError: it does not start.
    :raises WaitError: it does not serve in time.
    """
    load_image(host, service.image, archive)
    ports = ("--publish", f"{service.port}:{service.port}") if publish else ()
    container = host.docker("run", "--detach", "--name", name or service.name, *ports, *options, service.image)

    def serves() -> bool:
        pid = host.docker("inspect", "--format", "{{.State.Pid}}", container)
        if pid == "0":
            log = host.exec(["docker", "logs", "--tail", "5", container])
            raise LabError(f"{service.name} on {host.name} ended: {(log.stdout + log.stderr).strip()}")
        sockets = host.exec(f"cat /proc/{pid}/net/tcp /proc/{pid}/net/tcp6", check=False).stdout
        if service.port not in listening_ports(sockets):
            return False
        return (
            not service.ready or host.exec(["docker", "exec", container, *service.ready], check=False).returncode == 0
        )

    wait_for(serves, f"{service.name} on {host.name} serves", _SERVES_S)
    return container


def listening_ports(table: str) -> set[int]:
    """Ports somebody listens on, from proc_net_tcp(5)."""
    rows = (line.split() for line in table.splitlines())
    return {int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == _LISTEN}
