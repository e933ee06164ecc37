"""Many runs on a few labs, and the file that tells of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hoplab import LabError

from .bench import Bench
from .cells import Cell, Plan, plan_run
from .running import Row, Run

EXTRA_TURNS = 2
"""How often a run that missed its step is tried anew, for each run asked for."""


class Campaign:
    """All runs of some cells.

    A run counts for the cell that its fault hit by what the journals say, not for the one it was meant for.
    """

    def __init__(self, cells: Sequence[Cell], repeat: int, seed: int, result: Path) -> None:
        self._cells = list(cells)
        self._repeat = repeat
        self._seed = seed
        self._result = result
        self._lock = threading.Lock()
        self._waiting = {
            small: deque(
                plan_run(cell, seed, index) for index in range(repeat) for cell in cells if cell.fault.of_disk is small
            )
            for small in (False, True)
        }
        self._turns = Counter[Cell](dict.fromkeys(cells, repeat))
        self.rows: list[Row] = []

    def run(self, jobs: int) -> None:
        """Carry all out on ``jobs`` labs; returns when all are done and the labs are gone."""
        result = self._result
        result.parent.mkdir(parents=True, exist_ok=True)
        workers = [threading.Thread(target=self._work, args=(number,)) for number in range(jobs)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        finally:
            # Interrupted: what runs is seen through, so that its lab goes down.
            with self._lock:
                for waiting in self._waiting.values():
                    waiting.clear()
        self._write()

    def missed(self) -> list[Cell]:
        """Cells that were hit less often than asked for."""
        hits = self._hits()
        return [cell for cell in self._cells if hits[str(cell)] < self._repeat]

    def _hits(self) -> Counter[str]:
        return Counter(f"{row.fault}:{row.step_hit}" for row in self.rows if row.step_hit is not None)

    def _next(self, small_disks: bool | None) -> Plan | None:
        """The next run; of the kind of hosts that are up as long as there is one."""
        with self._lock:
            order = sorted(self._waiting, key=lambda small: small is not small_disks)
            return next((self._waiting[small].popleft() for small in order if self._waiting[small]), None)

    def _done(self, plan: Plan, row: Row) -> None:
        with self._lock:
            self.rows.append(row)
            missed = row.step_hit != row.step
            if missed and self._turns[plan.cell] < self._repeat * (1 + EXTRA_TURNS):
                again = plan_run(plan.cell, self._seed, self._turns[plan.cell])
                self._waiting[plan.cell.fault.of_disk].append(again)
                self._turns[plan.cell] += 1
            self._write()
        word = "holds" if row.holds else "BROKEN"
        told = f"{row.cell} hit {row.step_hit} seed {row.seed}: {row.who_ran}, exit {row.exit_code} {row.said}, {word}"
        say(f"{told}, {row.seconds:.0f} s {'; '.join(row.broken + row.residue)}")

    def _write(self) -> None:
        self._result.write_text(json.dumps([asdict(row) for row in self.rows], indent=1) + "\n")

    def _work(self, number: int) -> None:
        """Take runs while there are any; one lab serves many, until a run breaks it or needs another kind."""
        generation = 0
        plan = self._next(None)
        while plan is not None:
            generation += 1
            small = plan.cell.fault.of_disk
            try:
                made = Bench(f"faults-{os.getpid()}-{number}-{generation}", small_disks=small)
            except LabError as error:
                # Such as a link that measures short on a busy machine.
                say(f"no lab for {plan.cell}: {error}")
                self._again(plan)
                plan = self._next(small)
                continue
            with made as bench:
                while plan is not None and plan.cell.fault.of_disk is small:
                    good = self._one(bench, plan)
                    plan = self._next(small)
                    if not good:
                        break

    def _one(self, bench: Bench, plan: Plan) -> bool:
        """One run; returns whether the lab is fit for another."""
        before = {name: len(daemon.log()) for name, daemon in bench.daemons.items()}
        try:
            row = Run(bench, plan).carry_out()
        except (LabError, OSError, subprocess.TimeoutExpired) as error:
            say(f"{plan.cell} seed {plan.seed}: the lab failed: {error}")
            self._keep_logs(bench, plan, before)
            self._again(plan)
            return False
        self._done(plan, row)
        if not row.holds:
            self._keep_logs(bench, plan, before)
        return row.holds

    def _again(self, plan: Plan) -> None:
        """A run that told nothing, once more, at the end."""
        with self._lock:
            if self._turns[plan.cell] < self._repeat * (1 + EXTRA_TURNS):
                self._turns[plan.cell] += 1
                self._waiting[plan.cell.fault.of_disk].append(plan)

    def _keep_logs(self, bench: Bench, plan: Plan, before: dict[str, int]) -> None:
        """What the daemons said, beside the result."""
        directory = self._result.parent / "faults-logs"
        directory.mkdir(exist_ok=True)
        for name, daemon in bench.daemons.items():
            try:
                text = daemon.log()[before[name] :]
                docker = daemon.host.dockerd_log.read_text(errors="replace")[-8000:]
                found = daemon.host.exec("docker ps -a; ps -ef", check=False).stdout
            except LabError as error:
                text, docker, found = str(error), "", ""
            stem = f"{plan.cell.fault.value}-{int(plan.cell.step)}-{plan.seed}-{name}"
            (directory / f"{stem}.log").write_text(f"{text}\n--- dockerd\n{docker}\n--- now\n{found}\n")


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
