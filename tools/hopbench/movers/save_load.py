"""Rival: ``docker commit``, ``docker save``, ``docker load`` and a cold start. Memory does not cross."""

from __future__ import annotations

import subprocess
import time

from hopbench.usage import children_cpu_s
from hopbench.workloads import Workload
from hoplab import Host
from hoplab.services import Service

from .mover import NAME, SPACE, TRANSFER_PORT, TRANSFER_S_MAX, Moved, wait_until_served

IMAGE = "moved-image:1"


class SaveLoadMover:
    """Stopped first, so that the files are those of a service that has ended in good order; then all is one pipe."""

    def __init__(self, source: Host, target: Host) -> None:
        self._source, self._target = source, target
        self._options: list[str] = []
        self._service: Service | None = None

    def start(self, workload: Workload) -> None:
        """See :class:`.mover.Mover`."""
        self._service = workload.service
        self._options = [word for name, value in workload.environment for word in ("--env", f"{name}={value}")]
        self._target.load(workload.service)
        self._source.service(workload.service, name=NAME, options=self._options)

    def ahead(self, *, stage: bool) -> None:
        """Nothing."""

    def move(self) -> Moved:
        """See :class:`.mover.Mover`."""
        source, target, service = self._source, self._target, self._service
        assert service is not None
        began = time.monotonic()
        # SIGINT: PostgreSQL would wait for its clients on SIGTERM, and Python as PID 1 does not hear that at all.
        source.docker("stop", "--signal", "SIGINT", "--timeout", "2", NAME)
        source.docker("commit", NAME, IMAGE)
        load = f"nc -l -p {TRANSFER_PORT} | zstd -dc | docker load --quiet"
        with target.popen(["sh", "-c", load], stdout=subprocess.DEVNULL) as listener:
            try:
                wait_until_served(target, TRANSFER_PORT)
                save = f"docker save {IMAGE} | zstd -3 -T0 -c | nc -N {target.name} {TRANSFER_PORT}"
                source.exec(save, timeout=TRANSFER_S_MAX)
                listener.wait(TRANSFER_S_MAX)
            finally:
                if listener.poll() is None:
                    listener.kill()
        publish = ("--publish", f"{service.port}:{service.port}")
        target.docker("run", "--detach", "--name", NAME, *publish, *self._options, IMAGE)
        ended = time.monotonic()
        return Moved(ended - began, ended)

    def cpu_s(self) -> float:
        """Of all commands; what dockerd does for them counts as the engine's."""
        return children_cpu_s()

    def clean(self) -> None:
        """See :class:`.mover.Mover`."""
        for host in (self._source, self._target):
            host.docker("rm", "--force", NAME, check=False)
            host.docker("image", "rm", "--force", IMAGE, check=False)
            host.exec(f"rm -rf {SPACE}/*")
