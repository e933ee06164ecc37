"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

from hoplab import Host

_VERSIONS = {
    "Docker": "docker version --format '{{.Server.Version}}'",
    "runc": "runc --version | head -n 1 | cut -d ' ' -f 3",
    "CRIU": "criu --version | head -n 1 | cut -d ' ' -f 2",
}


def describe_machine(host: Host) -> dict[str, str]:
    """Processor, memory, kernel, versions of a host's engine, the day, and how busy the machine was to begin with."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": processor,
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_gib:.0f} GiB",
        "kernel": platform.release(),
        **{name: host.exec(command, check=False).stdout.strip() for name, command in _VERSIONS.items()},
        "load at the start": f"{os.getloadavg()[0]:.2f}",
    }
