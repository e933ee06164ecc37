"""Captures of what daemons say on the links of a lab."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hoplab import Host
from hoplab.edge import PORT
from hoplab.processes import wait_for


@contextmanager
def captured(host: Host, peer: Host, path: Path) -> Iterator[None]:
    """Capture what daemons say at ``host``'s end of the link to ``peer``."""
    route = str(host.exec(["ip", "-o", "route", "get", peer.address]).stdout).split()
    interface = route[route.index("dev") + 1]
    command = ["dumpcap", "-q", "-i", interface, "-f", f"tcp port {PORT}", "-w", str(path), "-B", "64"]
    capturing = subprocess.Popen(["nsenter", f"--net={host.netns}", *command], stderr=subprocess.PIPE, text=True)
    assert capturing.stderr is not None
    said = capturing.stderr.readline()
    assert "Capturing on" in said, said + capturing.stderr.read()
    try:
        wait_for(lambda: path.exists() and path.stat().st_size > 0, "the capture has begun", 10.0)
        yield
    finally:
        capturing.send_signal(signal.SIGINT)
        _, told = capturing.communicate(timeout=30)
    lost = re.search(r"received/dropped on interface [^:]*: \d+/(\d+)", told)
    assert lost is not None, told
    assert lost[1] == "0", told
