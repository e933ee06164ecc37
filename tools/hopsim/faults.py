"""What goes wrong in a run: chosen by the seed, triggered by a state that a side has reached or by time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .disk import FAULTS
from .docker import AFTER, BEFORE, set_frozen
from .loop import Process
from .machine import Machine
from .network import Network
from .world import World

SOURCE, TARGET = "a", "b"

_SOURCE_STATES = ("precopy", "freezing", "released", "done", "aborted")
_TARGET_STATES = ("receiving", "prepared", "owned", "open", "refused", "aborted")

STEPS_MAX = 14
"""How many steps after a state a fault may strike; by then the next state is usually reached."""

_KINDS: dict[str, float] = {
    "kill daemon": 6,
    "kill daemon and guard": 3,
    "stop daemon": 1.5,
    "stall daemon": 1.5,
    "power off": 5,
    "kill dockerd": 3,
    "docker errors": 2,
    "cut": 4,
    "partition": 4,
    "one way": 3,
    "refuse": 1,
    "journal": 4,
    "journal and power": 2,
    "disk full": 2,
    "slow disk": 0.5,
    "runtime dies": 1,
    "dump fails": 0.5,
    "quota refused": 0.5,
    "restore fails": 1,
    "corrupt": 0.5,
    "cancel": 2,
    "user pauses": 0.7,
    "user stops": 0.7,
    "user removes": 0.5,
}
"""Kinds of faults, by how often they are chosen."""

_ONE_SIDED = {
    "dump fails": SOURCE,
    "quota refused": SOURCE,
    "user pauses": SOURCE,
    "user stops": SOURCE,
    "user removes": SOURCE,
    "cancel": SOURCE,
    "corrupt": SOURCE,
    "restore fails": TARGET,
    "runtime dies": TARGET,
}


@dataclass(slots=True)
class Fault:
    """One fault of a plan.

    :param side: the host that it strikes; for a link the one from which nothing passes.
    :param after: (host, role, state) that has to be reached first, or None.
    :param steps: of either side's processes afterwards, or from the beginning.
    :param lasts_s: how long until it is mended.
    """

    kind: str
    side: str
    after: tuple[str, str, str] | None
    steps: int
    lasts_s: float
    variant: float
    armed: bool = False
    struck: bool = False

    def __str__(self) -> str:
        when = f"{' '.join(self.after)} + {self.steps}" if self.after else f"step {self.steps}"
        return f"{self.kind} at {self.side}, after {when}, for {self.lasts_s:.2f} s"


def plan(world: World) -> list[Fault]:
    """The faults of a run."""
    rng = world.rng
    count = rng.choices((0, 1, 2, 3), (4, 60, 26, 10))[0]
    faults = []
    for _ in range(count):
        kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
        side = _ONE_SIDED.get(kind) or rng.choice((SOURCE, TARGET))
        after = None
        if rng.random() < 0.85:
            if rng.random() < 0.5:
                after = SOURCE, "source", rng.choice(_SOURCE_STATES)
            else:
                after = TARGET, "target", rng.choice(_TARGET_STATES)
        steps = rng.randrange(STEPS_MAX) if after else rng.randrange(180)
        lasts_s = rng.choice((0.1, 1.0, 3.0, 8.0, 20.0, 60.0)) * (0.2 + rng.random())
        faults.append(Fault(kind, side, after, steps, lasts_s, rng.random()))
    return faults


class Injector:
    """Lets the faults of a plan strike when they are due, and mends what they did.

    :param cancel: what the user's cancel does; False if there is nothing to cancel.
    """

    def __init__(self, world: World, network: Network, machines: dict[str, Machine], faults: Sequence[Fault]) -> None:
        self.world = world
        self.network = network
        self.machines = machines
        self.faults = list(faults)
        self.fenced: str | None = None
        """The host that never comes back."""

        self.user_stopped = False
        self.user_paused = False
        self.struck: Counter[tuple[str, str, str]] = Counter()
        """(kind and side, state of the source, state of the target) of each fault that struck."""

        self.cancel: Callable[[], bool] = lambda: False
        self.mending = 0
        """Faults that are not mended yet."""

        self.last_struck_s = 0.0
        for fault in faults:
            fault.armed = fault.after is None
        world.on_step = self._on_step
        world.on_record = self._on_record

    @property
    def waiting(self) -> bool:
        """Whether a fault may still strike."""
        return any(fault.armed and not fault.struck for fault in self.faults)

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        self.world.on_step = self.world.on_record = None

    def _on_record(self, host: str, role: str, state: str) -> None:
        for fault in self.faults:
            if fault.after == (host, role, state):
                fault.armed = True

    def _on_step(self, process: Process, what: str) -> None:
        for fault in self.faults:
            if fault.armed and not fault.struck:
                fault.steps -= 1
                if fault.steps < 0:
                    fault.struck = True
                    self._strike(fault, f"{process.name}, {what}")

    def _strike(self, fault: Fault, where: str) -> None:
        world = self.world
        machine = self.machines[fault.side]
        other = self.machines[TARGET if fault.side == SOURCE else SOURCE]
        world.trace(f"FAULT {fault.kind} at {fault.side} ({where}), for {fault.lasts_s:.2f} s")
        source, target = self.machines[SOURCE].states["source"], self.machines[TARGET].states["target"]
        if self._do(fault, machine, other):
            self.last_struck_s = world.now_s
            self.struck[f"{fault.kind} {fault.side}", source, target] += 1

    def _later(self, delay_s: float, mend: Callable[..., object], *args: object) -> None:
        self.mending += 1

        def do() -> None:
            self.mending -= 1
            mend(*args)

        self.world.at_world(delay_s, do)

    def _do(self, fault: Fault, machine: Machine, other: Machine) -> bool:
        """Whether it made a difference."""
        kind = fault.kind.replace(" ", "_")
        result: bool = getattr(self, f"_{kind}")(fault, machine, other)
        return result

    # -- processes and power ---------------------------------------------------------------------------------------

    def _kill_daemon(self, fault: Fault, machine: Machine, _: Machine) -> bool:
        struck = machine.kill_daemon()
        self._later(0.1 + fault.lasts_s, machine.start_daemon)
        return struck

    def _kill_daemon_and_guard(self, fault: Fault, machine: Machine, other: Machine) -> bool:
        if fault.variant < 0.5:
            machine.kill_guards()
        else:
            self._later(fault.variant, machine.kill_guards)
        return self._kill_daemon(fault, machine, other)

    def _stop_daemon(self, fault: Fault, machine: Machine, _: Machine) -> bool:
        daemon = machine.daemon
        if daemon is None or not daemon.alive or daemon.moves is None:
            return False

        def kill() -> None:
            # As systemd does after its patience.
            if daemon.alive:
                machine.kill_daemon()

        machine.in_daemon(daemon.stop.set)
        self._later(30.0, kill)
        self._later(30.2 + fault.lasts_s, machine.start_daemon)
        return True

    def _stall_daemon(self, fault: Fault, machine: Machine, _: Machine) -> bool:
        daemon = machine.daemon
        if daemon is None or not daemon.alive:
            return False
        now = self.world.loop.time()
        daemon.stalled_since, daemon.stalled_until = now, now + fault.lasts_s
        return True

    def _power_off(self, fault: Fault, machine: Machine, other: Machine) -> bool:
        if not other.on and self.fenced is not None:
            return False
        if not machine.power_off():
            return False
        if fault.variant < 0.15 and self.fenced is None and len(self.faults) == 1:
            self.fenced = machine.name
        else:
            self._later(0.5 + fault.lasts_s, machine.power_on)
        return True

    def _kill_dockerd(self, fault: Fault, machine: Machine, _: Machine) -> bool:
        if not machine.docker.up:
            return False
        machine.docker.kill_daemon()
        self._later(0.1 + fault.lasts_s, machine.restart_docker)
        return True

    def _docker_errors(self, fault: Fault, machine: Machine, _: Machine) -> bool:
        count = 1 + int(fault.lasts_s)
        machine.docker.faults = [AFTER if fault.variant < 0.5 else BEFORE] * min(count, 20)
        return True

    def _runtime_dies(self, fault: Fault, machine: Machine, _: Machine) -> bool:
        struck = [machine.runtime.kill_supervisor(container) for container in list(machine.runtime.restores)]
        return any(struck)

    # -- the link --------------------------------------------------------------------------------------------------

    def _cut(self, fault: Fault, machine: Machine, other: Machine) -> bool:
        self.network.cut(machine.name, other.name)
        if fault.variant < 0.3:
            self._refuse(fault, machine, other)
        return True

    def _refuse(self, fault: Fault, machine: Machine, _: Machine) -> bool:
        self.network.refusing.add(machine.name)
        self._later(fault.lasts_s, self.network.refusing.discard, machine.name)
        return True

    def _one_way(self, fault: Fault, machine: Machine, other: Machine) -> bool:
        self.network.block(machine.name, other.name)
        self._later(fault.lasts_s, self.network.unblock, machine.name, other.name)
        return True

    def _partition(self, fault: Fault, machine: Machine, other: Machine) -> bool:
        self._one_way(fault, machine, other)
        return self._one_way(fault, other, machine)

    # -- disks and content -----------------------------------------------------------------------------------------

    def _journal(self, fault: Fault, machine: Machine, _: Machine) -> bool:
        machine.database.next_fault = FAULTS[int(fault.variant * len(FAULTS))]
        return True

    def _journal_and_power(self, fault: Fault, machine: Machine, other: Machine) -> bool:
        self._journal(fault, machine, other)
        self._later(0.02 * fault.lasts_s, self._power_off, fault, machine, other)
        return True

    def _disk_full(self, fault: Fault, machine: Machine, _: Machine) -> bool:
        machine.database.full = machine.disk_full = True
        self._later(fault.lasts_s, self._disk_free, machine)
        return True

    def _disk_free(self, machine: Machine) -> None:
        machine.database.full = machine.disk_full = False

    def _slow_disk(self, fault: Fault, machine: Machine, _: Machine) -> bool:
        machine.slow_disk = True
        self._later(fault.lasts_s, setattr, machine, "slow_disk", False)
        return True

    def _dump_fails(self, _: Fault, machine: Machine, __: Machine) -> bool:
        machine.content_faults.add("dump")
        return True

    def _quota_refused(self, _: Fault, machine: Machine, __: Machine) -> bool:
        machine.content_faults.add("quota")
        return True

    def _corrupt(self, _: Fault, machine: Machine, __: Machine) -> bool:
        machine.content_faults.add("corrupt")
        return True

    def _restore_fails(self, _: Fault, machine: Machine, __: Machine) -> bool:
        machine.runtime.fail_next = True
        return True

    # -- people ----------------------------------------------------------------------------------------------------

    def _cancel(self, _: Fault, __: Machine, ___: Machine) -> bool:
        return self.cancel()

    def _user_pauses(self, _: Fault, machine: Machine, __: Machine) -> bool:
        for container in machine.docker.containers.values():
            if container.status == "running" and container.copy is not None and machine.docker.up:
                container.paused_by_user = self.user_paused = True
                set_frozen(machine.docker, container, frozen=True)
                return True
        return False

    def _user_stops(self, _: Fault, machine: Machine, __: Machine) -> bool:
        for container in machine.docker.containers.values():
            if container.copy is not None and machine.docker.up:
                container.stopped_by_user = self.user_stopped = True
                machine.docker.lose_copy(container)
                container.status = "exited"
                return True
        return False

    def _user_removes(self, fault: Fault, machine: Machine, other: Machine) -> bool:
        struck = self._user_stops(fault, machine, other)
        for container in [c for c in machine.docker.containers.values() if c.stopped_by_user]:
            del machine.docker.containers[container.id]
        return struck
