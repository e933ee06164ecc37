"""One run: a counter, a move, a fault at its step, mending, and what was seen."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hoplab.errors import WaitError
from hoplab.processes import wait_for
from streamhop.handover.journal import Record
from streamhop.handover.states import Role

from .bench import IMAGE, SOURCE, TARGET, Bench, pause
from .cells import Plan, step_of
from .inventory import COUNTER
from .journals import newest, rows_after
from .verdicts import QUIET_S, Observed, Said, judge

HOLD_S_MAX = 80.0
CLI_S_MAX = 90.0
SETTLE_S_MAX = 60.0
"""From the mending to the end that the matrix asks for; a daemon in doubt asks every five seconds."""

READ_ATTEMPTS = 5

POLL_S = 0.25
AFTERMATH_S = 1.0
"""How long after all is settled a second copy is still waited for."""


@dataclass(slots=True)
class Row:
    """What ``faults.json`` tells of one run."""

    cell: str
    seed: int
    fault: str
    step: int
    step_hit: int | None
    states: dict[str, str | None]
    """Newest state in each journal when the fault came."""

    hold: str
    delay_s: float
    loose: bool
    outage_s: float
    policy: str
    image_there: bool
    who_ran: str = ""
    lost: bool = False
    exit_code: int = 0
    said: str = ""
    reason: str = ""
    residue: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    holds: bool = False
    settled_s: float = 0.0
    seconds: float = 0.0


class Cli(threading.Thread):
    """Waits for ``streamhop migrate`` and takes down what it said."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(name="faults-cli", daemon=True)
        self._process = process
        self.said: Said | None = None
        self.reason = ""
        self.start()

    def run(self) -> None:
        """Until it ends, or has taken too long."""
        try:
            out, err = self._process.communicate(timeout=CLI_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, err = self._process.communicate()
        result: dict[str, Any] = {}
        with suppress(ValueError):
            result = json.loads(out)
        runs_at = "target" if result.get("outcome") == "moved" else str(result.get("runs_at", ""))
        self.reason = str(result.get("reason") or err.decode(errors="replace").strip()[-300:])
        self.said = Said(self._process.returncode, runs_at, time.monotonic())

    def wait(self) -> Said:
        """What it said, once it has ended.

        :raises WaitError: it hangs, though it was killed.
        """
        self.join(2 * CLI_S_MAX)
        if self.said is None:
            raise WaitError("streamhop migrate does not end")
        return self.said


class Run:
    """Use once: :meth:`carry_out`."""

    def __init__(self, bench: Bench, plan: Plan) -> None:
        self._bench = bench
        self._plan = plan
        self._marks = bench.marks()

    def carry_out(self) -> Row:
        """Returns what was seen, judged.

        :raises LabError: the lab itself failed, so that nothing can be said.
        """
        began = time.monotonic()
        bench, plan = self._bench, self._plan
        life = bench.begin(plan.policy, image_there=plan.image_there)
        before = bench.inventory()
        bench.ask_to_hold(plan.hold)
        command = ["streamhop", "migrate", COUNTER, TARGET, "--reconnect", "0s", "--format", "json"]
        cli = Cli(bench.source.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        states = self._break(cli)
        pause(plan.outage_s)
        bench.mend(plan.cell.fault)
        mended = time.monotonic()
        said = cli.wait()
        step = step_of(states[SOURCE], states[TARGET])

        def look() -> Observed:
            unsettled = [f"{host}: {record.role.value} {record.state.value}" for host, record in self._unsettled()]
            after = bench.inventory()
            pause(QUIET_S)
            now = time.monotonic()
            heard = bench.sink.reports()
            return Observed(
                plan.cell.fault,
                step,
                SOURCE,
                TARGET,
                plan.policy,
                IMAGE,
                heard,
                life,
                said,
                before,
                after,
                now,
                unsettled,
                lost=any(record.lost for record in self._records(TARGET, Role.TARGET).values()),
            )

        settled_s = self._await_settled(look, mended)
        pause(AFTERMATH_S)
        end, left, broken = judge(look())
        return Row(
            cell=str(plan.cell),
            seed=plan.seed,
            fault=plan.cell.fault.value,
            step=int(plan.cell.step),
            step_hit=None if step is None else int(step),
            states=states,
            hold=str(plan.hold),
            delay_s=plan.delay_s,
            loose=plan.loose,
            outage_s=plan.outage_s,
            policy=plan.policy,
            image_there=plan.image_there,
            who_ran=end.value,
            lost=end.lost,
            exit_code=said.exit_code,
            said=said.runs_at,
            reason=cli.reason,
            residue=left,
            broken=broken,
            holds=not left and not broken,
            settled_s=settled_s,
            seconds=round(time.monotonic() - began, 2),
        )

    @staticmethod
    def _await_settled(look: Callable[[], Observed], mended: float) -> float:
        """Look until all is as the matrix wants it, or for long enough; returns how long after the mending that was."""
        while True:
            at = time.monotonic()
            _, left, broken = judge(look())
            if (not left and not broken) or at >= mended + SETTLE_S_MAX:
                return round(at - mended, 2)
            pause(POLL_S)

    def _break(self, cli: Cli) -> dict[str, str | None]:
        """Bring the fault about where the plan wants it; returns the journals' states at that moment."""
        bench, plan = self._bench, self._plan
        side = plan.hold.side
        # A move that ends without coming there is told by its states, and does not count.
        with suppress(WaitError):
            wait_for(lambda: bench.is_held(side) or cli.said is not None, "the step is reached", HOLD_S_MAX, 0.002)
        if plan.loose:
            bench.let_go(side)
        pause(plan.delay_s)
        states = self._states()
        bench.break_it(plan.cell.fault)
        # One that never came to its hold must not stop there now that nobody looks.
        bench.forget_holds()
        bench.let_go(side)
        return states

    def _records(self, host: str, role: Role) -> dict[bytes, Record]:
        handle = self._bench.lab.host(host)
        for _ in range(READ_ATTEMPTS):
            with suppress(sqlite3.Error):
                return newest(rows_after(handle, self._marks[host]), role)
            pause(0.05)
        return {}

    def _states(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for host, role in ((SOURCE, Role.SOURCE), (TARGET, Role.TARGET)):
            records = list(self._records(host, role).values())
            found[host] = records[-1].state.value if records else None
        return found

    def _unsettled(self) -> list[tuple[str, Record]]:
        return [
            (host, record)
            for host, role in ((SOURCE, Role.SOURCE), (TARGET, Role.TARGET))
            for record in self._records(host, role).values()
            if record.unsettled
        ]
