"""Two hosts, a client and a link: brought up once, then one run after the other."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

from hoplab import Host, Lab, LabError
from hoplab.deploy import deploy
from hoplab.host_tools import install_tools
from hoplab.preparation import prepare_image

from .deployed import ENVIRONMENT, deploy_programs, program
from .figures import Row, busy_share
from .machine import describe_machine
from .movers.checkpoint_rsync import CheckpointRsyncMover
from .movers.mover import SPACE, Moved, Mover
from .movers.podman import PodmanMover
from .movers.save_load import SaveLoadMover
from .movers.streamhop import StreamhopMover
from .scenarios import PODMAN, RSYNC, SAVE_LOAD, STREAMHOP, Family, Link, Run
from .usage import LinkCounters, LinkWatch, cpu_s, engine_pids
from .watching import Pgbench, Watching
from .wire import transfers
from .workloads import PGBENCH_SCALE, workload_of

SOURCE, TARGET, CLIENT = "edge-a", "edge-b", "client"
BASELINE_S = 2.0
"""How long the client asks before the request: what a request takes is a median over this."""

SPACE_BYTES = 6_000_000_000
FILL_S_MAX = 600.0

Say = Callable[[str], None]

EDGE_TOOLS = ("iperf3", "netcat-openbsd", "openssh-client", "openssh-server", "podman", "rsync", "zstd")
CLIENT_TOOLS = ("postgresql",)
"""For pgbench."""

_RIVALS: dict[str, Callable[[Host, Host], Mover]] = {
    PODMAN: PodmanMover,
    RSYNC: CheckpointRsyncMover,
    SAVE_LOAD: SaveLoadMover,
}

Failures = (LabError, OSError, subprocess.SubprocessError, ValueError)
"""What ends one run and not the bench."""


class Bench:
    """A lab and all that the runs need of it. Use as a context manager.

    :param name: of the lab.
    :param runs: all that is going to be run; decides what the hosts are given.
    :param say: told how far it is.
    """

    def __init__(self, name: str, runs: Sequence[Run], say: Say = lambda _: None) -> None:
        self._say = say
        self._stack = ExitStack()
        self._shaped: Link | None = Link()
        self._own: tuple[bool, StreamhopMover] | None = None
        services = [workload_of(run.scenario).service for run in runs if run.scenario.family is not Family.WIRE]
        for service in {each.name: each for each in services}.values():
            prepare_image(service, report=say)
        self._lab = self._stack.enter_context(Lab.up(name, hosts=[SOURCE, TARGET], clients=[CLIENT]))
        try:
            self._furnish(runs)
        except BaseException:
            self._stack.close()
            raise

    def _furnish(self, runs: Sequence[Run]) -> None:
        self.source, self.target, self.client = (self._lab.host(name) for name in (SOURCE, TARGET, CLIENT))
        rivals = any(run.who != STREAMHOP or run.scenario.family is Family.WIRE for run in runs)
        for host in (self.source, self.target):
            if rivals:
                self._say(f"programs of the rivals for {host.name}")
                install_tools(host, EDGE_TOOLS)
            deploy(host)
            host.limit_disk(SPACE, SPACE_BYTES)
            host.load("base")
        if any(run.scenario.family is Family.POSTGRES for run in runs):
            install_tools(self.client, CLIENT_TOOLS)
        for host in (self.source, self.target, self.client):
            deploy_programs(host)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close_own()
        finally:
            self._stack.close()

    def machine(self) -> dict[str, str]:
        """What the figures are taken on."""
        return describe_machine(self.source)

    def run(self, run: Run) -> list[Row]:
        """Carry out one run; a row, or several of ``wire``. A run that fails is a row that says why."""
        try:
            self._shape(run.link)
            if run.scenario.family is not Family.WIRE:
                return [self._move(run)]
        except Failures as error:
            # The daemons may be in the middle of something: the next run gets new ones; what does not end is killed.
            with suppress(LabError):
                self._close_own()
            return [_failed(run, error)]
        return list(self._wire(run))

    def _shape(self, link: Link) -> None:
        if link != self._shaped:
            self._shaped = None  # until it is measured to be so
            self._lab.link(SOURCE, TARGET).shape(rate=link.bit_per_s, rtt=link.rtt_s)
            self._shaped = link

    def _mover(self, run: Run) -> Mover:
        if run.who != STREAMHOP:
            return _RIVALS[run.who](self.source, self.target)
        if self._own is None or self._own[0] != run.scenario.floor:
            self._close_own()
            observed = run.scenario.floor
            self._own = observed, StreamhopMover(self.source, self.target, observed=observed)
        return self._own[1]

    def _close_own(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            own[1].close()

    def _move(self, run: Run) -> Row:
        workload = workload_of(run.scenario)
        mover = self._mover(run)
        with ExitStack() as stack:
            stack.callback(mover.clean)
            mover.start(workload)
            if workload.records:
                fill = program("client", "fill", f"{SOURCE}:{workload.port}", "--records", str(workload.records))
                self.client.exec(fill, env=ENVIRONMENT, timeout=FILL_S_MAX)
            if workload.pgbench:
                stack.enter_context(Pgbench(self.client, [SOURCE, TARGET], PGBENCH_SCALE))
            addresses = [f"{host}:{workload.port}" for host in (SOURCE, TARGET)]
            watching = stack.enter_context(Watching(self.client, workload.client, addresses, *workload.asked))
            mover.ahead(stage=run.scenario.staged)
            time.sleep(BASELINE_S)  # a span that is measured
            return self._measured(run, mover, watching)

    def _measured(self, run: Run, mover: Mover, watching: Watching) -> Row:
        counters = LinkCounters(self._lab, SOURCE, TARGET)
        engines = engine_pids((self.source, self.target))
        before = mover.cpu_s(), sum(map(cpu_s, engines))
        with LinkWatch(counters) as link:
            begun = link.take()
            moved = mover.move()
            ended = link.take()
        after = mover.cpu_s(), sum(map(cpu_s, engines))
        seen = watching.stop()
        remarks = []
        if seen["answered_by"][-1:] != [TARGET]:
            remarks.append(f"the last answer came from {seen['answered_by'][-1:]}")
        floor = None
        if isinstance(mover, StreamhopMover):
            try:
                floor = mover.floor()
            except LabError as error:
                remarks.append(f"no floor: {error}")
        rate = run.link.bit_per_s
        freeze_at_s = _freeze_at_s(moved)
        return Row(
            scenario=run.scenario.name,
            mbit_per_s=run.link.mbit_per_s,
            rtt_ms=run.link.rtt_ms,
            who=run.who,
            repeat=run.repeat,
            gap_s=seen["longest_gap_s"],
            request_s=seen["request_s"],
            lost=seen["lost"],
            total_s=round(moved.total_s, 3),
            wire_bytes=ended.sent - begun.sent,
            back_bytes=ended.received - begun.received,
            cpu_s=round(after[0] - before[0], 2),
            engine_cpu_s=round(after[1] - before[1], 2),
            source_peak_bytes=moved.source_peak_bytes,
            target_peak_bytes=moved.target_peak_bytes,
            source_lag_ms=moved.source_lag_ms,
            target_lag_ms=moved.target_lag_ms,
            floor=floor,
            link_busy=None if rate is None or freeze_at_s is None else busy_share(link.samples, rate, freeze_at_s),
            staged=moved.staged,
            remarks=remarks,
            **_reported(moved.report),
        )

    def _wire(self, run: Run) -> Iterator[Row]:
        try:
            for done in transfers(self.source, self.target, run.scenario.size_mb):
                yield Row(
                    run.scenario.name,
                    run.link.mbit_per_s,
                    run.link.rtt_ms,
                    done.who,
                    run.repeat,
                    bytes_per_s=round(done.bytes_per_s),
                    cpu_s=done.cpu_s,
                )
        except Failures as error:
            yield _failed(run, error)


def _failed(run: Run, error: BaseException) -> Row:
    text = f"{type(error).__name__}: {error}"
    return Row(run.scenario.name, run.link.mbit_per_s, run.link.rtt_ms, run.who, run.repeat, failed=text[:2000])


def _freeze_at_s(moved: Moved) -> float | None:
    """When the freeze began, by the monotonic clock: the report's end is where the command ended."""
    for phase in moved.report.get("timeline", ()):
        if phase["phase"] == "freeze":
            return moved.ended_at_s - float(moved.report["total_s"]) + float(phase["at_s"])
    return None


def _reported(report: dict[str, Any]) -> dict[str, Any]:
    """What a row takes from streamhop's own report; nothing of a rival's."""
    if not report:
        return {}
    numbers = {kind: count for kind, count in (report["bytes"] or {}).items() if isinstance(count, int)}
    numbers.pop("wire", None)
    return {
        "predicted_s": report["predicted_downtime_s"],
        "downtime_s": report["downtime_s"],
        "rounds": len(report["rounds"]),
        "bytes_by_kind": numbers,
        "timeline": report["timeline"],
        "target_timeline": report["target_timeline"],
    }


def lab_name() -> str:
    """A name that no other bench on this machine has."""
    return f"hb-{os.getpid()}"
