"""One run: two hosts, one move (sometimes one back), the faults of the seed, then rest; and what must hold of it."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamhop.handover.errors import MoveError
from streamhop.handover.journal import Record
from streamhop.handover.operations import MoveRequest, Operation
from streamhop.handover.states import Role, State

from .ambient import ambient
from .content import IMAGE_NAME, image
from .docker import OWN_QUOTA_US, Container
from .faults import SOURCE, TARGET, Injector, plan
from .machine import Daemon, Machine
from .network import Network
from .service import Copy
from .world import World

REST_S_MAX = 600.0
"""How long the world may take to come to rest once nothing goes wrong any more."""

FAULTS_S_MAX = 90.0
"""From here on nothing goes wrong."""

FENCE_S = 60.0
"""After so long with one host off for good an operator decides."""

RECLAIMS_MAX = 20
"""How often an operator repeats what was refused because the move was still under way."""

NAME = "counter"

LETTING_GO_S_MAX = 0.1
"""From the last look at how long it has been frozen until that it is let go is on disk, which may be a little busy."""

NOT_ITS_FAULT = ("stall daemon", "slow disk")
"""What can hold a source up between the two for any time."""


@dataclass(slots=True)
class Outcome:
    """What a run ended with."""

    seed: int
    violations: list[str]
    lines: list[str]
    struck: Counter[tuple[str, str, str]]
    results: Counter[str] = field(default_factory=Counter)
    virtual_s: float = 0.0


class Simulation:
    """See the module.

    :param directory: an empty one, for what is stored; emptied again.
    """

    def __init__(self, seed: int, directory: Path, *, tracing: bool = False) -> None:
        self.world = World(seed, tracing)
        rng = self.world.rng
        self.network = Network(self.world)
        live_restore = rng.random() < 0.5
        self.machines = {
            name: Machine(self.world, self.network, name, directory / name, live_restore=live_restore)
            for name in (SOURCE, TARGET)
        }
        self.world.copies = self._copies
        self.policy = rng.choice(("no", "always", "unless-stopped", "always"))
        self.new_name = rng.choice((None, None, "renamed"))
        self.image_known = rng.random() < 0.5
        self.slows_down = random.Random(seed ^ 0xC0DE).random() < 0.3  # noqa: S311 - the rest of the run is as it was
        """Whether the service dirties memory faster than the link carries it, and may be slowed down for it."""
        for machine in self.machines.values():
            machine.docker.dirties_fast = self.slows_down
        strict = random.Random(seed ^ 0x71E5)  # noqa: S311 - the rest of the run is as it was
        self.downtime_s_max = strict.uniform(0.4, 1.2) if strict.random() < 0.2 else None
        """What the user allows, if it is more than an aim."""

        self.machines[SOURCE].on_record = self._check_in_time
        self.results: Counter[str] = Counter()
        self.injector = Injector(self.world, self.network, self.machines, plan(self.world))
        self.operations: list[Operation] = []
        self._asked: list[Daemon] = []
        """Daemons asked for a move that has not begun yet."""

    def _copies(self) -> list[Copy]:
        return [
            container.copy
            for machine in self.machines.values()
            for container in machine.docker.containers.values()
            if container.copy is not None
        ]

    # -- the course of it ------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Everything from the first boot to rest."""
        world = self.world
        for fault in self.injector.faults:
            world.trace(f"plan: {fault}")
        with ambient(world, list(self.machines.values())):
            try:
                self._course()
            finally:
                self._dismantle()
        return Outcome(world.seed, world.violations, world.lines, self.injector.struck, self.results, world.now_s)

    def _course(self) -> None:
        world, loop = self.world, self.world.loop
        for machine in self.machines.values():
            machine.docker.start_daemon()
            machine.start_daemon()
        source = self.machines[SOURCE].docker
        source.images[IMAGE_NAME] = image().id
        if self.image_known:
            self.machines[TARGET].docker.images[IMAGE_NAME] = image().id
        container = source.add(NAME, image().id, "runc", self.policy)
        source.cold_start(container)
        world.memory_lost = False
        self._run_for(0.5)
        self._start_move(SOURCE, TARGET, self.new_name, downtime_s_max=self.downtime_s_max)
        self._until(lambda: not self._busy(), FAULTS_S_MAX)
        self.injector.calm()
        self._until(lambda: self.injector.mending == 0, REST_S_MAX)
        for machine in self.machines.values():
            machine.docker.faults.clear()
            machine.database.next_fault = None
            machine.runtime.fail_next = False
            machine.content_faults.clear()
            if machine.name != self.injector.fenced:
                machine.restart_docker()
                machine.start_daemon()
        if self.injector.fenced is not None:
            self._run_for(FENCE_S)
            self._decide()
        else:
            self._reclaim_lost()
        if not self._until(self._at_rest, REST_S_MAX):
            world.violation(f"no rest after {REST_S_MAX:.0f} s: {self._unrest()}")
        self._run_for(3.0)
        self._check_rest()
        for bug in loop.bugs:
            world.violation(f"a bug: {bug}")
        if not world.violations and world.rng.random() < 0.1:
            self._move_back()

    def _move_back(self) -> None:
        """A world that has come to rest can move its service again."""
        owner = next((m for m in self.machines.values() if any(c.executes for c in self._copies_at(m))), None)
        if owner is None or self.injector.fenced is not None:
            return
        other = self.machines[TARGET if owner.name == SOURCE else SOURCE]
        name = next(iter(owner.docker.containers.values())).name
        before = len(self.operations)
        self.downtime_s_max = None
        self._start_move(owner.name, other.name, None, name)
        self._until(lambda: any(operation.result for operation in self.operations[before:]), REST_S_MAX)
        results = [operation.result for operation in self.operations[before:]]
        if [(result or {}).get("outcome") for result in results] != ["moved"]:
            self.world.violation(f"afterwards it cannot be moved again: {results}")
        self._until(self._at_rest, REST_S_MAX)
        if self._copies() and not any(copy.executes for copy in self._copies_at(other)):
            self.world.violation("after the move back it does not run")

    def _copies_at(self, machine: Machine) -> list[Copy]:
        return [c.copy for c in machine.docker.containers.values() if c.copy is not None]

    def _start_move(
        self, here: str, there: str, new_name: str | None, name: str = NAME, downtime_s_max: float | None = None
    ) -> None:
        machine = self.machines[here]

        def begun(operation: Operation) -> None:
            assert daemon is not None
            self._asked.remove(daemon)
            self.operations.append(operation)
            assert operation.task is not None
            operation.task.add_done_callback(lambda _: self._on_result(operation, here, there))

            def cancel() -> bool:
                moves = daemon.moves if daemon is not None and daemon.alive else None
                return moves is not None and bool(machine.in_daemon(moves.cancel, operation.move))

            self.injector.cancel = cancel

        request = MoveRequest(name, there, new_name, downtime_s_max, auto_converge=self.slows_down)
        daemon = machine.move(request, begun)
        if daemon is not None:
            self._asked.append(daemon)

    def _busy(self) -> bool:
        """Whether the moves go on, or a fault is under way or yet to strike."""
        running = any(
            operation.result is None and operation.task is not None and self._lives(operation)
            for operation in self.operations
        )
        running = running or any(daemon.alive for daemon in self._asked)
        return running or self.injector.mending > 0 or self._unsettled() or (self.injector.waiting and self._young())

    def _young(self) -> bool:
        return self.world.now_s < 20.0

    def _lives(self, operation: Operation) -> bool:
        daemon = self.machines[SOURCE].daemon
        return daemon is not None and daemon.alive and operation.task in daemon.tasks

    def _until(self, there: Any, seconds: float) -> bool:
        # Asked now and then: it costs more than a step of the world.
        loop, world = self.world.loop, self.world
        end_s = loop.time() + seconds
        while True:
            if there():
                return True
            if loop.time() >= end_s:
                return False
            self._run_for(0.25 if loop.time() < end_s - seconds + 30 else 2.5)
            if world.violations and not world.tracing:
                return True

    def _run_for(self, seconds: float) -> None:
        loop = self.world.loop
        end_s = loop.time() + seconds
        loop.at_world(seconds, _nothing)
        loop.run_while(lambda: loop.time() < end_s, end_s)

    def _dismantle(self) -> None:
        loop = self.world.loop
        loop.close()
        for machine in self.machines.values():
            for process in (machine.daemon, machine.docker.process):
                if process is not None:
                    process.alive = False
            for place in (machine.config.state_dir, machine.config.run_dir):
                shutil.rmtree(place, ignore_errors=True)

    # -- an operator -----------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        """One host is off, and an operator knows it. A source may come back when all is decided."""
        alive = self.machines[TARGET if self.injector.fenced == SOURCE else SOURCE]
        daemon = alive.daemon
        if daemon is None or daemon.moves is None:
            return
        for record in alive.records:
            if record.role is Role.TARGET and record.state is State.PREPARED:
                self._ask(alive, daemon.moves.claim, record)
            elif record.role is Role.SOURCE and record.state is State.RELEASED:
                for copy in self._copies_at(alive):
                    self.world.sink.go_back_to(copy)
                self._ask(alive, daemon.moves.reclaim, record)
        self._run_for(10.0)
        if self.injector.fenced == SOURCE and self.world.rng.random() < 0.5:
            self.injector.fenced = None
            self.machines[SOURCE].power_on()

    def _reclaim_lost(self) -> None:
        """A target that went down at the start cannot say whether it ran: an operator lets the source go on."""
        source, target = self.machines[SOURCE], self.machines[TARGET]
        if not self._until(lambda: any(record.lost for record in target.records) or self._at_rest(), FENCE_S):
            return
        lost = {record.move for record in target.records if record.lost}
        # More than once: a move that is still under way cannot be reclaimed, and its user has not been told yet.
        for _ in range(RECLAIMS_MAX):
            doubtful = [record for record in source.records if record.state is State.RELEASED and record.move in lost]
            for record in doubtful:
                assert source.daemon is not None
                assert source.daemon.moves is not None
                for copy in self._copies_at(source):
                    self.world.sink.go_back_to(copy)
                self._ask(source, source.daemon.moves.reclaim, record)
                self._run_for(10.0)
            if not doubtful:
                return

    def _ask(self, machine: Machine, ask: Any, record: Record) -> None:
        async def asking() -> None:
            try:
                await ask(record.move)
            except MoveError as error:
                self.world.trace(f"{machine.name}: {ask.__name__}: {error}")
            else:
                self.world.trace(f"{machine.name}: an operator says {ask.__name__}")

        assert machine.daemon is not None
        self.world.loop.spawn(machine.daemon, asking())

    # -- what must hold --------------------------------------------------------------------------------------------

    def _check_in_time(self, role: str, state: str) -> None:
        """P6: nothing is let go that has been frozen for longer than the user allows."""
        if self.downtime_s_max is None or (role, state) != (Role.SOURCE.value, State.RELEASED.value):
            return
        excuses = {(kind, SOURCE) for kind in NOT_ITS_FAULT}
        if any(fault.struck and (fault.kind, fault.side) in excuses for fault in self.injector.faults):
            return
        for container in self.machines[SOURCE].docker.containers.values():
            frozen_s = self.world.now_s - container.frozen_at_s
            if container.copy is not None and frozen_s > self.downtime_s_max + LETTING_GO_S_MAX:
                self.world.violation(f"let go too late: frozen for {frozen_s:.3f} s of {self.downtime_s_max:.3f} s")

    def _unsettled(self) -> bool:
        return any(machine.on and any(r.unsettled for r in machine.records) for machine in self.machines.values())

    def _at_rest(self) -> bool:
        return not self._unrest()

    def _unrest(self) -> str:
        """What is still to happen; empty if nothing is."""
        found = []
        for machine in self.machines.values():
            if not machine.on:
                continue
            found += [
                f"{machine.name}: {record.role.value} is {record.state.value} {dict(record.details)}"
                for record in machine.records
                if record.unsettled
                and not (
                    self.injector.fenced and (record.details.get("owes_abort") or record.details.get("owes_finish"))
                )
            ]
            if machine.daemon is None or not machine.daemon.alive or machine.daemon.moves is None:
                found.append(f"{machine.name}: the daemon is not there")
            found += [f"{machine.name}: a guard is at work" for guard in machine.guards if not guard.daemon.alive]
        found += ["a move is under way" for op in self.operations if op.result is None and self._lives(op)]
        return "; ".join(found)

    def _on_result(self, operation: Operation, here: str, there: str) -> None:
        """What the user is told has to be true when it is told."""
        result = operation.result
        if result is None:
            return
        outcome = result["outcome"]
        self.results[outcome if outcome == "moved" else f"{result['code']}"] += 1
        self.world.trace(f"{here}: the user is told {outcome} {result.get('runs_at', '')} {result.get('reason', '')}")
        if result.get("code") == "cancelled" and not operation.unwanted:
            self.world.violation("the user is told of a cancel that nobody made")
        if "internal error" in str(result.get("reason")):
            self.world.violation(f"the user is told of a bug: {result['reason']}")
        self._check_where(result, here, there)

    def _check_where(self, result: dict[str, Any], here: str, there: str) -> None:
        copies_here, copies_there = (self._copies_at(self.machines[name]) for name in (here, there))
        lost, outcome, runs_at = self.world.memory_lost, result["outcome"], result.get("runs_at")
        if outcome == "moved":
            if not lost and not any(copy.executed for copy in copies_there):
                self.world.violation("the user is told that it was moved, and it never ran there")
        elif runs_at == "source":
            if not any(copy.executes for copy in copies_here) and not lost and not self.injector.user_paused:
                self.world.violation(f"the user is told that it runs at the source, and it does not: {result}")
        elif runs_at == "nowhere":
            if any(copy.executes for copy in copies_here):
                self.world.violation("the user is told that nobody runs, and it runs at the source")
        elif runs_at == "frozen":
            # Said when Docker does not answer: it may be frozen, and the daemon goes on trying.
            records = self.machines[here].records
            if not any(record.details.get("owes_thaw") or record.state is State.FREEZING for record in records):
                self.world.violation("the user is told that it is frozen, and the journal does not say so")
        elif runs_at == "ended" and any(copy.executes for copy in copies_here):
            self.world.violation("the user is told that it ended, and it runs at the source")

    def _check_rest(self) -> None:
        """Nothing of the move is left but the one container where it should be, as it was."""
        world, fenced = self.world, self.injector.fenced
        alive = [machine for machine in self.machines.values() if machine.name != fenced]
        for machine in alive:
            self._check_residue(machine)
        owner = self._owner()
        if owner is None:
            return
        for machine in alive:
            containers = list(machine.docker.containers.values())
            if machine is not owner and containers:
                world.violation(f"{machine.name}: left behind: {[(c.name, c.status) for c in containers]}")
        if owner.name == fenced:
            return
        containers = list(owner.docker.containers.values())
        if len(containers) != 1:
            if not self.injector.user_stopped:
                world.violation(f"{owner.name}: {len(containers)} containers instead of one")
            return
        self._check_container(owner, containers[0])

    def _owner(self) -> Machine | None:
        """Where the journals say that the service is; None if that is in doubt."""
        records = [r for r in self.machines[SOURCE].records if r.role is Role.SOURCE]
        if self.injector.fenced == SOURCE:
            theirs = [r for r in self.machines[TARGET].records if r.role is Role.TARGET]
            opened = bool(theirs) and theirs[0].state in (State.OPEN, State.DONE)
            return self.machines[TARGET] if opened else self.machines[SOURCE]
        if records and records[0].details.get("claimed_there"):
            return self.machines[TARGET]
        if not records or records[0].state in (State.ABORTED, State.PRECOPY, State.FREEZING):
            return self.machines[SOURCE]
        return self.machines[TARGET] if records[0].state is State.DONE else None

    def _check_container(self, machine: Machine, container: Container) -> None:
        world = self.world
        where = f"{machine.name}: the container"
        name = NAME if machine.name == SOURCE else self.new_name or NAME
        if container.name != name:
            world.violation(f"{where} is called {container.name}")
        if container.restart != self.policy:
            world.violation(f"{where} has the restart policy {container.restart}, not {self.policy}")
        if container.gate_closed:
            world.violation(f"{where} has its gate closed")
        if container.copy is not None and container.quota_us != OWN_QUOTA_US:
            world.violation(f"{where} is left slowed down: its quota is {container.quota_us}")
        runs = container.copy is not None and container.copy.executes
        if not runs and container.status == "paused":
            if not self.injector.user_paused:
                world.violation(f"{where} is left frozen")
        elif not runs and not world.memory_lost:
            world.violation(f"{where} does not run: {container.status}")
        elif not runs and self.policy in ("always", "unless-stopped") and not self.injector.user_stopped:
            world.violation(f"{where} is {container.status} after a crash, and its restart policy is {self.policy}")

    def _check_residue(self, machine: Machine) -> None:
        world = self.world
        for place in (machine.config.state_dir / "spool", machine.config.run_dir / "dumps"):
            if place.is_dir() and (left := [path.name[:8] for path in place.iterdir()]):
                world.violation(f"{machine.name}: left in {place.name}: {left}")
        if machine.runtime.restores:
            world.violation(f"{machine.name}: left: {len(machine.runtime.restores)} announced restores")
        needs_image = machine.name == SOURCE or self.image_known or machine.docker.containers
        if machine.docker.images and not needs_image:
            world.violation(f"{machine.name}: the image is left")


def _nothing() -> None:
    return


def planned(seed: int, directory: Path) -> set[tuple[str, str]]:
    """Kind and side of the faults that ``seed`` holds."""
    return {(fault.kind, fault.side) for fault in Simulation(seed, directory).injector.faults}


def simulate(seed: int, directory: Path, *, tracing: bool = False) -> Outcome:
    """Run ``seed``."""
    asyncio.set_event_loop(None)
    return Simulation(seed, directory, tracing=tracing).run()
