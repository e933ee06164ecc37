"""What a lab remembers between commands: JSON files under the run directory, written whole, changed under a lock."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import LabError, UsageError
from .processes import ProcessId
from .settings import Settings, check_lab_name

LABS_MAX = 100
"""Each lab owns one of the address ranges 10.(100 + index).0.0/16."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a link was found to do, one entry a direction being the worse of the two."""

    bit_per_s: float
    """Payload of one TCP stream, after its slow start; the slower direction."""

    rtt_s: float
    """Median round trip of one byte over an established TCP connection, the link being idle."""


@dataclass(slots=True)
class HostState:
    """One host."""

    name: str
    number: int
    """From 1; the last byte of its address."""

    address: str
    docker: bool
    image_store: str
    disk_limits: dict[str, int] = field(default_factory=dict)
    """Path -> bytes of the size-limited file system mounted there."""

    init: ProcessId | None = None
    """PID 1 of the host; ``None`` while the power is off."""


@dataclass(slots=True)
class LinkState:
    """What joins two hosts."""

    a: str
    b: str
    rate_bit_per_s: int | None = None
    rtt_s: float | None = None
    loss: float = 0.0
    up: bool = True
    backend: str = ""
    """``veth``, ``netem`` (a veth whose kernel delays) or ``relay`` (a program of ours delays)."""

    relay: ProcessId | None = None
    measured: Measured | None = None
    silent: str = ""
    """The end whose sending is lost while the link is up otherwise; empty: neither."""


@dataclass(slots=True)
class LabState:
    """One lab."""

    name: str
    index: int
    segment: bool
    hosts: list[HostState] = field(default_factory=list)
    links: list[LinkState] = field(default_factory=list)
    root: str = ""
    """The root file system its hosts lie over."""

    site: str = ""
    """Python packages its hosts see."""

    ready: bool = False
    """Whether ``up`` came to its end."""

    @property
    def network(self) -> str:
        """The first two bytes of the lab's addresses."""
        return f"10.{100 + self.index}"


def _process(value: Any) -> ProcessId | None:
    return None if value is None else ProcessId(int(value["pid"]), int(value["start_ticks"]))


def decode(text: str) -> LabState:
    """:raises LabError: ``text`` is not a lab's state."""
    try:
        value = json.loads(text)
        hosts = [HostState(**{**item, "init": _process(item["init"])}) for item in value.pop("hosts")]
        links = [
            LinkState(
                **{
                    **item,
                    "relay": _process(item["relay"]),
                    "measured": Measured(**item["measured"]) if item["measured"] else None,
                }
            )
            for item in value.pop("links")
        ]
        return LabState(**value, hosts=hosts, links=links)
    except (ValueError, TypeError, KeyError) as error:
        raise LabError(f"the lab's state cannot be read: {error}; `hoplab down --all` removes it") from error


def encode(state: LabState) -> str:
    """The inverse of :func:`decode`."""
    return json.dumps(asdict(state), indent=1)


class Store:
    """The states of all labs of this machine."""

    def __init__(self, where: Settings) -> None:
        self._run = where.run

    def directory(self, lab: str) -> Path:
        """What belongs to one lab while it is up."""
        return self._run / check_lab_name(lab)

    def names(self) -> list[str]:
        """All labs that left a directory, whole or not."""
        if not self._run.is_dir():
            return []
        return sorted(entry.name for entry in self._run.iterdir() if entry.is_dir())

    @contextlib.contextmanager
    def lock(self, lab: str | None = None) -> Iterator[None]:
        """Keep other commands from changing ``lab``, or from making and removing labs.

        :raises UsageError: there is no such lab.
        """
        directory = self.directory(lab) if lab else self._run
        if lab is None:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise self._missing(str(lab)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def edit(self, lab: str) -> Iterator[LabState]:
        """The lab's state, locked, and saved at the end if nothing was raised."""
        with self.lock(lab):
            state = self.load(lab)
            yield state
            self.save(state)

    def _missing(self, name: str) -> UsageError:
        up = ", ".join(self.names()) or "none"
        return UsageError(f"there is no lab {name!r} (up: {up}): `hoplab up --lab {name}` makes it")

    def create(self, name: str, *, segment: bool) -> LabState:
        """Claim the name and an address range.

        :raises UsageError: a lab of that name is up, or there are too many.
        """
        with self.lock():
            directory = self.directory(name)
            if directory.exists():
                raise UsageError(f"lab {name!r} is up already, or was left half made: `hoplab down --lab {name}` first")
            taken = {state.index for state in map(self._load_quietly, self.names()) if state is not None}
            index = next((number for number in range(LABS_MAX) if number not in taken), None)
            if index is None:
                raise UsageError(f"{LABS_MAX} labs are up: `hoplab down` one first")
            directory.mkdir(mode=0o700)
            state = LabState(name, index, segment)
            self.save(state)
            return state

    def load(self, name: str) -> LabState:
        """:raises UsageError: there is no such lab.

        :raises LabError: its state cannot be read.
        """
        try:
            text = (self.directory(name) / "lab.json").read_text()
        except FileNotFoundError as error:
            raise self._missing(name) from error
        return decode(text)

    def _load_quietly(self, name: str) -> LabState | None:
        try:
            return self.load(name)
        except LabError:
            return None

    def save(self, state: LabState) -> None:
        """Write ``state`` whole; a crash leaves the former one."""
        path = self.directory(state.name) / "lab.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(encode(state))
        temporary.replace(path)
