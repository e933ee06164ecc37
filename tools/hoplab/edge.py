"""streamhop on lab hosts: install it, start its daemon, ask it for moves; and the client that watches from outside."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .asking import AskingClient
from .deploy import deploy
from .errors import LabError
from .host import Host

CONFIG = "/etc/streamhop/config.toml"
LOG = "/var/log/streamhop.log"
STARTED = "control on"
PORT = 4711
START_S_MAX = 20.0
STOP_S_MAX = 60.0
PROBE = "/usr/local/lib/hoplab-probe.py"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a ``streamhop migrate`` ended."""

    exit_code: int
    report: dict[str, Any]
    remarks: str
    """What it wrote to standard error."""


class EdgeDaemon:
    """The streamhop daemon of one host."""

    def __init__(
        self,
        host: Host,
        peers: Sequence[str],
        settings: Mapping[str, str] | None = None,
        program: str = "streamhop",
    ) -> None:
        """Install and configure; :meth:`start` starts.

        :param peers: names of the other hosts.
        :param settings: further keys of the configuration, as TOML.
        :param program: what is run as the daemon.
        """
        self.host = host
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        lines = [f'name = "{host.name}"', f'listen = "0.0.0.0:{PORT}"']
        lines += [f"{key} = {value}" for key, value in (settings or {}).items()]
        lines += ["[peers]", *(f'{peer} = "{peer}:{PORT}"' for peer in peers)]
        deploy(host)
        host.write(CONFIG, "\n".join(lines) + "\n")
        host.exec(["streamhop", "setup"])

    def start(self) -> Self:
        """Start the daemon and wait until it serves.

        :raises LabError: it ended, or does not serve in time; with the end of its log.
        """
        before = len(self.log())
        self._process = self.host.popen(["sh", "-c", f"exec {self._program} daemon >> {LOG} 2>&1"])
        deadline = time.monotonic() + START_S_MAX
        while STARTED not in self.log()[before:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"streamhop does not start on {self.host.name}: {self.log()[-2000:]}")
            time.sleep(0.02)
        return self

    def log(self) -> str:
        """What the daemon has logged so far."""
        return str(self.host.exec(f"cat {LOG} 2>/dev/null || true").stdout)

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The daemon's process, as a child of the caller; ``None`` if it does not run."""
        return None if self._process is None or self._process.poll() is not None else self._process

    def peak_rss_bytes(self) -> int:
        """Most memory the daemon has had resident."""
        if self._process is None:
            raise LabError(f"the daemon of {self.host.name} does not run")
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise LabError("the kernel does not tell a process's peak memory")

    def stop(self) -> None:
        """Ask the daemon to end, and wait until it has."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise LabError(f"the daemon of {self.host.name} did not end when asked to: {self.log()[-2000:]}") from None

    def kill(self) -> None:
        """End the daemon as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def power_off(self) -> None:
        """Power failure of the host; the daemon dies with everything else there.

        It is a child of this process, and a host is not gone before all that died there is waited for.
        """
        process, self._process = self._process, None
        reaper = threading.Thread(target=process.wait if process is not None else lambda: None)
        reaper.start()
        self.host.power_off()
        reaper.join()

    def power_on(self) -> Self:
        """Start the host again, and its daemon."""
        self.host.power_on()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- moves -----------------------------------------------------------------------------------------------------

    def begin_migrate(self, container: str, peer: str, *options: str, **popen: Any) -> subprocess.Popen[bytes]:
        """Start ``streamhop migrate --format json``; its standard output is a pipe."""
        command = ["streamhop", "migrate", container, peer, "--format", "json", *options]
        return self.host.popen(command, stdout=subprocess.PIPE, **popen)

    def migrate(self, container: str, peer: str, *options: str, timeout_s: float = 300.0) -> Outcome:
        """Move a container and wait for the end."""
        process = self.begin_migrate(container, peer, *options, stderr=subprocess.PIPE)
        return finish_migrate(process, timeout_s)


def pair(inviter: EdgeDaemon, guest: EdgeDaemon) -> None:
    """Make two daemons that run trust each other."""
    token = str(inviter.host.exec(["streamhop", "pair"]).stdout).strip()
    guest.host.exec(["streamhop", "pair", token, inviter.host.name])


def finish_migrate(process: subprocess.Popen[bytes], timeout_s: float = 300.0) -> Outcome:
    """Wait for a migration that was begun.

    :raises subprocess.TimeoutExpired: it is killed before.
    """
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    report = json.loads(out) if out.strip() else {}
    return Outcome(process.returncode, report, (err or b"").decode(errors="replace"))


class ProbeClient(AskingClient):
    """:mod:`hoplab.probe` running on a client host.

    :raises LabError: it does not get through.
    """

    def __init__(self, host: Host, service: str, addresses: Sequence[str], *options: str) -> None:
        install_probe(host)
        super().__init__(host, ["python3", PROBE, service, *addresses, *options], service)


def install_probe(host: Host) -> None:
    """Put the probe on a host."""
    host.write(PROBE, (Path(__file__).parent / "probe.py").read_text())


def dataset(host: Host, command: str, address: str, keys: int) -> dict[str, Any]:
    """Run ``fill`` or ``digest`` of the probe; see :mod:`hoplab.probe`."""
    install_probe(host)
    done = host.exec(["python3", PROBE, command, address, "--keys", str(keys)])
    found: dict[str, Any] = json.loads(done.stdout)
    return found
