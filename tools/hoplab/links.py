"""Making, changing, cutting and measuring the link between two hosts."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import network
from .errors import LabError, LinkOffError
from .host import program_environment
from .measure import End, measure
from .processes import ProcessId
from .settings import Settings, netns_name, netns_path
from .state import HostState, LabState, LinkState, Measured

RATE_TOLERANCE = 0.10
RTT_TOLERANCE = 0.20
RTT_GRAIN_S = 0.001
"""What scheduling may add to any round trip on a busy machine."""

_ATTEMPTS = 4
_SPAN_S = 1.0
_BRIEF_SPAN_S = 0.1


class Wiring:
    """The links of one lab. Changes ``LinkState`` objects; saving them is the caller's business."""

    def __init__(self, where: Settings, state: LabState) -> None:
        self._where = where
        self._state = state

    def _host(self, name: str) -> HostState:
        return next(host for host in self._state.hosts if host.name == name)

    def _netns(self, host: str) -> Path:
        return netns_path(netns_name(self._state.name, host))

    def _device(self, towards: str) -> str:
        """Name of the device that leads to a host; the same rule in every host."""
        return f"eth{self._host(towards).number}"

    def _ends(self, link: LinkState) -> list[tuple[Path, str]]:
        return [(self._netns(link.a), self._device(link.b)), (self._netns(link.b), self._device(link.a))]

    def _control(self, link: LinkState) -> Path:
        # Socket paths are limited to 107 bytes, so the hosts' numbers name it.
        numbers = f"{self._host(link.a).number}-{self._host(link.b).number}"
        return self._where.run / self._state.name / f"relay-{numbers}.sock"

    def connect(self, link: LinkState) -> None:
        """Make the link's devices anew and give them what the link is set to."""
        self.remove(link)
        (netns_a, device_a), (netns_b, device_b) = self._ends(link)
        link.backend = self._choose_backend(link)
        if link.backend == "relay":
            self._start_relay(link)
        else:
            network.create_veth(netns_a, device_a, netns_b, device_b)
        a, b = self._host(link.a).address, self._host(link.b).address
        network.add_address(netns_a, device_a, a, 32, peer=b)
        network.add_address(netns_b, device_b, b, 32, peer=a)
        self._apply(link)

    def _choose_backend(self, link: LinkState) -> str:
        if link.rtt_s is None and not link.loss:
            return "veth"
        if link.loss:
            # The kernel would lose packets of up to 64 KiB, which stand for dozens on a wire, as one.
            return "relay"
        netns, _ = self._ends(link)[0]
        return "netem" if network.netem_available(netns, "lo") else "relay"

    def remove(self, link: LinkState) -> None:
        """Remove what makes the link; no error if it is not there."""
        if link.relay is not None:
            link.relay.kill()
            link.relay = None
        self._control(link).unlink(missing_ok=True)
        for netns, device in self._ends(link):
            if netns.exists():
                network.delete_device(netns, device)

    def change(self, link: LinkState) -> None:
        """Bring a running link to what ``link`` says; connections over it go on."""
        if self._choose_backend(link) == link.backend:
            self._apply(link)
        else:
            self.connect(link)

    def _apply(self, link: LinkState, *, loss: float | None = None) -> None:
        ends = self._ends(link)
        loss = link.loss if loss is None else loss
        running = self.running(link)
        if link.backend == "relay":
            self._set_relay(link, loss=loss, up=running)
        for name, (netns, device) in zip((link.a, link.b), ends, strict=True):
            if not running or name == link.silent:
                network.block(netns, device)
                continue
            network.shape(
                netns,
                device,
                rate_bit_per_s=link.rate_bit_per_s,
                rtt_s=link.rtt_s or 0.0,
                delay_s=(link.rtt_s or 0.0) / 2 if link.backend == "netem" else 0.0,
            )

    def running(self, link: LinkState) -> bool:
        """Whether the link is up, and so are the hosts at its ends."""
        return link.up and all(self._host(name).init is not None for name in (link.a, link.b))

    def cut(self, link: LinkState) -> None:
        """Let nothing pass, whatever the link's own setting is."""
        if link.backend == "relay":
            self._set_relay(link, loss=0.0, up=False)
        for netns, device in self._ends(link):
            network.block(netns, device)

    # The relay

    def _relay_setting(self, link: LinkState, *, loss: float, up: bool) -> dict[str, Any]:
        return {"delay_s": (link.rtt_s or 0.0) / 2, "loss": loss, "up": up}

    def _start_relay(self, link: LinkState) -> None:
        control = self._control(link)
        spec = {
            "ends": [{"netns": str(netns), "device": device} for netns, device in self._ends(link)],
            "control": str(control),
            "setting": self._relay_setting(link, loss=link.loss, up=True),
        }
        log = control.with_suffix(".log")
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "hoplab.relay", json.dumps(spec)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env=program_environment(),
            )
        stdout = process.stdout
        if stdout is None or stdout.readline() != b"ready\n":
            process.kill()
            process.wait()
            said = (log.read_text(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
            raise LabError(f"the relay between {link.a} and {link.b} does not start: {said}")
        stdout.close()
        link.relay = ProcessId.of(process.pid)
        _ADOPTED.append(process)

    def _set_relay(self, link: LinkState, *, loss: float, up: bool) -> None:
        if link.relay is None or not link.relay.alive():
            raise LabError(f"the relay between {link.a} and {link.b} is gone: `hoplab down --lab {self._state.name}`")
        control = self._control(link)
        answer = control.with_name(f"{control.stem}-{os.getpid()}.answer")
        with contextlib.suppress(FileNotFoundError):
            answer.unlink()
        request = json.dumps(self._relay_setting(link, loss=loss, up=up)).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(10)
                channel.bind(str(answer))
                channel.sendto(request, str(control))
                channel.recv(16)
        except OSError as error:
            raise LabError(f"the relay between {link.a} and {link.b} does not answer: {error}") from error
        finally:
            answer.unlink(missing_ok=True)

    # Measuring

    def measure(self, link: LinkState) -> None:
        """Measure the link and refuse one that is not what was asked for.

        Loss is off meanwhile: what it does to a TCP stream depends on more than the link.

        :raises LinkOffError: the rate is off by more than 10 %, or the round trip by more than 20 %.
        """
        a, b = (End(self._netns(name), self._host(name).address) for name in (link.a, link.b))
        if link.loss:
            self._apply(link, loss=0.0)
        complaint = None
        for _ in range(_ATTEMPTS):
            span_s = _SPAN_S if link.rate_bit_per_s else _BRIEF_SPAN_S
            measured = measure(a, b, rtt_s=link.rtt_s or 0.0, span_s=span_s)
            complaint = deviation(link, measured)
            if complaint is None:
                break
        link.measured = measured
        if link.loss:
            self._apply(link)
        if complaint is not None:
            raise LinkOffError(f"the link {link.a} to {link.b} is not what was asked for: {complaint}")


_ADOPTED: list[subprocess.Popen[bytes]] = []
"""Relays this program started. They outlive it; while it lives it is their parent and reaps them."""


def reap() -> None:
    """Reap relays that were killed."""
    _ADOPTED[:] = [process for process in _ADOPTED if process.poll() is None]


def deviation(link: LinkState, measured: Measured) -> str | None:
    """What is wrong with a measured link; ``None`` if it is as it was asked for."""
    rate = link.rate_bit_per_s
    if rate is not None and abs(measured.bit_per_s / rate - 1) > RATE_TOLERANCE:
        return f"it carries {measured.bit_per_s / 1e6:.2f} Mbit/s, not {rate / 1e6:g}"
    rtt_s = link.rtt_s or 0.0
    tolerance_s = max(rtt_s * RTT_TOLERANCE, RTT_GRAIN_S) if rtt_s else 0.010
    if abs(measured.rtt_s - rtt_s) > tolerance_s:
        return f"a round trip takes {measured.rtt_s * 1e3:.2f} ms, not {rtt_s * 1e3:g}"
    return None
