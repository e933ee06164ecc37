"""Slows a container down during pre-copy, as :mod:`.converging` has it, and lets it go when it is frozen."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from streamhop.engine.cpu_quota import CpuCgroup
from streamhop.telemetry.events import EventLog

from .concurrency import in_worker
from .converging import Throttle, converge
from .cpu_debts import give_back, lower, owe
from .failures import plain
from .host import Host, MoveJournal
from .policy import Decision, PolicyOptions, RoundResult, Verdict
from .preflight import SourceContainer
from .report import Tally
from .states import OWES_CPU

FREEZING_LOOKED_AT_S = 0.002

log = logging.getLogger("streamhop.handover")


class Brake:
    """The brake of one attempt to move a container. Without ``auto_converge`` it does nothing.

    After each round: :meth:`judge`, then :meth:`apply`; around the freeze :meth:`released`. What an attempt that ends
    otherwise leaves is given back by :mod:`.settling_here`.

    :param journal: of the attempt.
    """

    def __init__(
        self,
        host: Host,
        journal: MoveJournal,
        container: SourceContainer,
        options: PolicyOptions,
        events: EventLog,
        tally: Tally,
    ) -> None:
        self._host = host
        self._journal = journal
        self._container = container
        self._works = options.auto_converge
        self._events = events
        self._tally = tally
        self._throttle = Throttle()
        self._applied_percent = 0
        self._applied_at = 0.0
        self._cgroup: CpuCgroup | None = None
        self._use = _Use()
        self._debt: dict[str, Any] | None = None

    def judge(self, verdict: Verdict, rounds: Sequence[RoundResult], *, alone: bool) -> Verdict:
        """The policy's verdict on ``rounds``, unless a slower container may change it.

        :param alone: whether nothing but these rounds is on the link: a container does not pay for its image's layers.
        """
        if not self._works:
            return verdict
        if alone:
            self._throttle, verdict = converge(self._throttle, verdict, rounds, self._container.manifest.page_size)
        elif verdict.stalled and verdict.decision is Decision.GIVE_UP:
            verdict = replace(verdict, decision=Decision.CONTINUE, reason="the image layers have a part of the link")
        return verdict

    async def apply(self) -> None:
        """Take from the container what the last verdict said.

        Where that cannot be done the move goes on without.

        :raises sqlite3.Error: the debt could not be written down; nothing was changed.
        """
        if not self._works:
            return
        try:
            if self._cgroup is None:
                self._cgroup = await in_worker(self._host.cpu.find, self._container.id, self._container.init_pid)
            self._use.note(time.monotonic(), await in_worker(self._host.cpu.used_s, self._cgroup))
            self._account()
            if self._throttle.percent > self._applied_percent:
                await self._step(self._cgroup)
        except OSError as error:
            self._works = False
            self._events.emit("remark", text=f"the container's CPU quota cannot be lowered: {plain(error)}")

    async def _step(self, cgroup: CpuCgroup) -> None:
        if self._debt is None:
            debt = await in_worker(owe, self._host.cpu, cgroup, self._use.cpus_max)
            await self._journal.note(**{OWES_CPU: debt})
            self._debt = debt
        await in_worker(lower, self._host.cpu, self._debt, self._throttle.percent)
        self._applied_percent, self._applied_at = self._throttle.percent, time.monotonic()
        self._tally.throttle_percent_max = max(self._tally.throttle_percent_max, self._applied_percent)
        self._events.emit("throttle", percent=self._applied_percent)

    @asynccontextmanager
    async def released(self) -> AsyncIterator[None]:
        """Give the container its CPU back while it is frozen within the context.

        Not before: it would dirty memory at its full speed. Nor only afterwards: a process has to run once more to be
        frozen, and waits for that for up to several periods, longer than runc does.
        """
        easing = asyncio.ensure_future(self._ease())
        try:
            yield
        finally:
            easing.cancel()
            await asyncio.wait({easing})
        await self.release()

    async def _ease(self) -> None:
        """Give the quota back as soon as the freeze has begun. :meth:`release` does it again, and writes it down."""
        if self._debt is None or self._cgroup is None:
            return
        with contextlib.suppress(OSError):
            while not await in_worker(self._host.cpu.freezing, self._cgroup):  # noqa: ASYNC110 - only the kernel knows
                await asyncio.sleep(FREEZING_LOOKED_AT_S)
            await in_worker(give_back, self._host.cpu, self._debt)

    async def release(self) -> None:
        """Give the container its CPU back, which is frozen now: the dump finds its own quota.

        What cannot be given back stays owed.
        """
        if self._debt is None:
            return
        self._account()
        self._applied_percent = 0
        try:
            await in_worker(give_back, self._host.cpu, self._debt)
        except OSError as error:
            log.warning("%s: its CPU quota could not be given back yet: %s", self._container.name, plain(error))
            return
        await self._journal.note(**{OWES_CPU: None})
        self._debt = None
        self._events.emit("throttle", percent=0)

    def _account(self) -> None:
        """Count the time since the last look."""
        if self._applied_percent:
            now = time.monotonic()
            self._tally.throttled_s += now - self._applied_at
            self._applied_at = now


class _Use:
    """The most CPU that a container has used in a round."""

    def __init__(self) -> None:
        self.cpus_max = 0.0
        self._last: tuple[float, float] | None = None

    def note(self, now_s: float, used_s: float) -> None:
        """Take ``used_s`` of CPU, since the container began, at ``now_s``."""
        if self._last is not None and now_s > self._last[0]:
            self.cpus_max = max(self.cpus_max, (used_s - self._last[1]) / (now_s - self._last[0]))
        self._last = now_s, used_s
