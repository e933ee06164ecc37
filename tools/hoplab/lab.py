"""A lab: hosts, the links between them, and how all of it comes and goes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from . import links, network
from .errors import LabError, UsageError
from .host import Host, boot, daemon_json, halt
from .links import Wiring
from .namespaces import create_network, delete_network, unmount_below
from .plan import DiskLimits, find_host, find_link, limit_disks, links_of, plan_lab, shape_between_dockers
from .preparation import prepare
from .processes import wait_for
from .remains import kill_strays, lab_networks
from .segment import attach_host, create_segment, wire_segment
from .settings import Settings, check_lab_name, netns_name, netns_path, settings
from .state import HostState, LabState, LinkState, Measured, Store
from .status import lab_status
from .units import parse_duration, parse_rate, parse_share

T = TypeVar("T")

KEEP: Any = object()
"""Leave a property of a link as it is."""


REMOVE_S_MAX = 20.0


def _removed(directory: Path) -> bool:
    """Whether a directory is gone after an attempt; what a kernel still takes down behind a dead host is in the way.

    :raises OSError: something is mounted there and stays.
    """
    unmount_below(directory)  # what is mounted is not the lab's to delete
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


class Link:
    """A handle on the link between two hosts."""

    def __init__(self, lab: Lab, a: str, b: str) -> None:
        self._lab = lab
        self.a = a
        self.b = b

    def __repr__(self) -> str:
        return f"Link({self.a!r}, {self.b!r} of {self._lab.name!r})"

    @property
    def state(self) -> LinkState:
        """What the lab remembers about this link."""
        return find_link(self._lab.state, self.a, self.b)

    @property
    def measured(self) -> Measured:
        """What the link was last found to do.

        :raises LabError: it was never measured.
        """
        measured = self.state.measured
        if measured is None:
            raise LabError(f"the link {self.a} to {self.b} was never measured")
        return measured

    def shape(
        self, *, rate: str | float | None = KEEP, rtt: str | float | None = KEEP, loss: str | float | None = KEEP
    ) -> Measured:
        """Change the link while it is in use, and measure it again.

        :param rate: bit/s or ``"20mbit"``; ``None``: unlimited.
        :param rtt: seconds or ``"50ms"``; ``None``: no delay.
        :param loss: share of packets lost each way, or ``"1%"``.
        :raises LinkOffError: the link is not what was asked for.
        """
        with self._lab.editing() as state:
            link = find_link(state, self.a, self.b)
            link.rate_bit_per_s = link.rate_bit_per_s if rate is KEEP else parse_rate(rate)
            link.rtt_s = link.rtt_s if rtt is KEEP else parse_duration(rtt)
            link.loss = link.loss if loss is KEEP else parse_share(loss)
            wiring = Wiring(self._lab.settings, state)
            wiring.change(link)
            self._lab.store.save(state)
            if wiring.running(link):
                wiring.measure(link)
        return self.measured

    def measure(self) -> Measured:
        """Measure the link now; it should be idle.

        :raises LinkOffError: the link is not what was asked for.
        """
        with self._lab.editing() as state:
            Wiring(self._lab.settings, state).measure(find_link(state, self.a, self.b))
        return self.measured

    def down(self, sender: str | None = None) -> None:
        """Cut the link: what is sent, and what is under way, vanishes in both directions without a word.

        :param sender: only what this end sends vanishes; what the other one sends arrives.
        :raises UsageError: that is neither end.
        """
        if sender is not None and sender not in (self.a, self.b):
            raise UsageError(f"{sender!r} is no end of the link between {self.a} and {self.b}")
        self._switch(up=sender is not None, silent=sender or "")

    def up(self) -> None:
        """Heal the link: it is again what it was."""
        self._switch(up=True, silent="")

    def _switch(self, *, up: bool, silent: str) -> None:
        with self._lab.editing() as state:
            link = find_link(state, self.a, self.b)
            link.up, link.silent = up, silent
            Wiring(self._lab.settings, state).change(link)


class Lab:
    """Made by :meth:`up` or found by :meth:`attach`. As a context manager it goes down at the end."""

    def __init__(self, name: str, where: Settings) -> None:
        self.name = name
        self.settings = where
        self.store = Store(where)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @classmethod
    def up(
        cls,
        name: str = "lab",
        *,
        hosts: Iterable[str] = ("edge-a", "edge-b"),
        clients: Iterable[str] = (),
        rate: str | float | None = None,
        rtt: str | float | None = None,
        loss: str | float | None = None,
        image_store: str = "classic",
        segment: bool = False,
        disk_limits: DiskLimits | None = None,
    ) -> Lab:
        """Make a lab. Links between ``hosts`` get ``rate``, ``rtt`` and ``loss``; those of clients are not shaped.

        :param hosts: names of hosts with Docker.
        :param clients: names of hosts without Docker.
        :param image_store: ``classic`` (overlay2) or ``containerd`` (the containerd snapshotter).
        :param segment: join all hosts by a second, layer-2 network for containers, Docker network ``segment``.
        :param disk_limits: host -> bytes for /var/lib/docker, or host -> {path: bytes}.
        :raises LabError: it cannot be made; nothing is left of it then.
        """
        where = settings()
        state = plan_lab(name, list(hosts), list(clients), image_store, segment=segment)
        limit_disks(state, disk_limits or {})
        shape_between_dockers(state, parse_rate(rate), parse_duration(rtt), parse_share(loss))
        prepared = prepare(where)
        state.root, state.site = str(prepared.root), str(prepared.site)
        lab = cls(name, where)
        claimed = lab.store.create(name, segment=segment)
        state.index = claimed.index
        for host in state.hosts:
            host.address = f"{state.network}.0.{host.number}"
        try:
            lab._build(state)
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def attach(cls, name: str = "lab") -> Lab:
        """A lab that is up.

        :raises UsageError: there is none of that name.
        """
        where = settings()
        Store(where).load(check_lab_name(name))
        return cls(name, where)

    @classmethod
    def forget(cls, name: str) -> None:
        """:meth:`down` for a lab that may be whole, half made, or not there at all."""
        cls(check_lab_name(name), settings()).down()

    @classmethod
    def names(cls) -> list[str]:
        """All labs that are up, or were left half made."""
        return Store(settings()).names()

    def _build(self, state: LabState) -> None:
        with self.store.lock(self.name):
            self.store.save(state)
            if state.segment:
                create_segment(self.name)
            for host in state.hosts:
                create_network(netns_path(netns_name(self.name, host.name)))
                network.bring_up(netns_path(netns_name(self.name, host.name)), "lo")
                host.init = boot(self.settings, self.name, host, root=state.root, site=state.site)
                self.store.save(state)
            wiring = Wiring(self.settings, state)
            for link in state.links:
                wiring.connect(link)
                self.store.save(state)
        for host in state.hosts:
            self._first_boot(host)
        self._start_dockers(state.hosts)
        with self.store.lock(self.name):
            for link in state.links:
                wiring.measure(link)
            state.ready = True
            self.store.save(state)

    def _first_boot(self, host: HostState) -> None:
        handle = self.host(host.name)
        lines = [f"{other.address} {other.name}" for other in self.state.hosts]
        handle.write("/etc/hosts", "\n".join(["127.0.0.1 localhost", "::1 localhost", *lines, ""]))
        handle.write("/etc/hostname", host.name + "\n")
        if host.docker:
            handle.write("/etc/docker/daemon.json", daemon_json(self.name, host))

    def _start_dockers(self, hosts: list[HostState]) -> None:
        state = self.state
        for host in hosts:
            handle = self.host(host.name)
            if state.segment:
                wire_segment(self.name, state, host)
            if host.docker:
                handle.start_docker()
            if state.segment:
                attach_host(handle, state, host)

    # Handles and state

    @property
    def state(self) -> LabState:
        """What the lab remembers about itself.

        :raises UsageError: it is down.
        """
        return self.store.load(self.name)

    def editing(self) -> Any:
        """Context manager: the state, locked, and saved at the end."""
        return self.store.edit(self.name)

    def host_state(self, name: str) -> HostState:
        """:raises UsageError: there is no such host."""
        return find_host(self.state, name)

    def host(self, name: str) -> Host:
        """A handle on a host.

        :raises UsageError: there is no such host.
        """
        self.host_state(name)
        return Host(self, name)

    __getitem__ = host

    @property
    def hosts(self) -> list[Host]:
        """All hosts, clients too, in the order they were named."""
        return [Host(self, host.name) for host in self.state.hosts]

    def link(self, a: str, b: str) -> Link:
        """A handle on the link between two hosts, in either order.

        :raises UsageError: there is no such link.
        """
        found = find_link(self.state, a, b)
        return Link(self, found.a, found.b)

    @property
    def links(self) -> list[Link]:
        """All links."""
        return [Link(self, link.a, link.b) for link in self.state.links]

    def load_image(self, host: str, service: str) -> str:
        """:meth:`Host.load` of the host named."""
        return self.host(host).load(service)

    def service(
        self, host: str, service: str, *, name: str | None = None, publish: bool = True, options: Sequence[str] = ()
    ) -> str:
        """:meth:`Host.service` of the host named."""
        return self.host(host).service(service, name=name, publish=publish, options=options)

    @staticmethod
    def wait_for(condition: Callable[[], T | None], what: str, timeout_s: float = 30.0) -> T:
        """Ask ``condition`` until it answers with something true, and return that.

        :raises WaitError: it did not in time; ``what`` says what was waited for.
        """
        return wait_for(condition, what, timeout_s)

    def remember_disk_limit(self, name: str, path: str, size_bytes: int | None) -> None:
        """Note that ``path`` of a host is limited, or no more if ``size_bytes`` is None, for its next start."""
        with self.editing() as state:
            limits = find_host(state, name).disk_limits
            if size_bytes is None:
                limits.pop(path, None)
            else:
                limits[path] = size_bytes

    # Faults

    def power_off(self, name: str) -> None:
        """Kill a host in silence: its links are cut first, so that no goodbye of a dying socket gets out."""
        with self.editing() as state:
            host = find_host(state, name)
            wiring = Wiring(self.settings, state)
            for link in links_of(state, name):
                wiring.cut(link)
            if state.segment:
                network.delete_device(netns_path(netns_name(self.name, name)), "seg0")
            halt(self.name, host)
            host.init = None

    def power_on(self, name: str) -> None:
        """Start a host that is off; returns when Docker answers.

        :raises UsageError: it runs.
        """
        with self.editing() as state:
            host = find_host(state, name)
            if host.init is not None and host.init.alive():
                raise UsageError(f"{name} runs already")
            # A new namespace: sockets, rules and bridges of the former life must not answer for this one.
            wiring = Wiring(self.settings, state)
            for link in links_of(state, name):
                wiring.remove(link)
            halt(self.name, host)
            path = netns_path(netns_name(self.name, name))
            delete_network(path)
            create_network(path)
            network.bring_up(path, "lo")
            host.init = boot(self.settings, self.name, host, root=state.root, site=state.site)
            for link in links_of(state, name):
                wiring.connect(link)
        links.reap()
        self._start_dockers([host])

    # The end

    def down(self) -> None:
        """Remove the lab and everything of it; also what an ``up`` that crashed left. No error if there is none.

        :raises WaitError: something does not die.
        :raises OSError: something is mounted in the lab's directories and stays.
        """
        kill_strays(self.settings, self.name)
        links.reap()
        for path in lab_networks(self.name):
            delete_network(path)
        for directory in (self.settings.data / self.name, self.store.directory(self.name)):
            wait_for(lambda: _removed(directory), f"{directory} is removed", REMOVE_S_MAX, 0.05)  # noqa: B023 - at once

    def status(self) -> dict[str, Any]:
        """Everything one may want to know, as JSON has it."""
        return lab_status(self.settings, self.state)
