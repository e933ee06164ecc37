"""What all hosts of a simulated world share: time, chance, the sink, the trace, and who hears of each step."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .loop import Process, VirtualLoop
from .service import Copy, Sink


@dataclass
class World:
    """See the module.

    :param seed: decides everything that happens.
    :param tracing: keep a line for each thing that happens.
    """

    seed: int
    tracing: bool = False
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    violations: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    memory_lost: bool = False
    """Whether a crash destroyed a running service: then what the daemons destroy is no longer counted against them."""

    copies: Callable[[], list[Copy]] = list
    """Every copy of the service that there is."""

    on_step: Callable[[Process, str], None] | None = None
    on_record: Callable[[str, str, str], None] | None = None
    """Told (host, role, state) of each state that got into a journal."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # noqa: S311 - it has to be reproducible
        self.started_s = self.loop.time()
        self.sink = Sink(self.violation)

    @property
    def now_s(self) -> float:
        """Seconds since the world began."""
        return self.loop.time() - self.started_s

    def at_world(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> None:
        """See :meth:`VirtualLoop.at_world`."""
        self.loop.at_world(delay_s, callback, *args)

    def trace(self, text: str) -> None:
        """Note what happens."""
        if self.tracing:
            self.lines.append(f"{self.now_s:10.4f}  {text}")

    def violation(self, text: str) -> None:
        """An invariant does not hold."""
        self.violations.append(f"at {self.now_s:.4f} s: {text}")
        self.trace(f"VIOLATION {text}")

    def others_as_good(self, copy: Copy) -> bool:
        """Whether the service survives without ``copy``."""
        return any(other is not copy and self.sink.is_newest(other) for other in self.copies())

    def step(self, process: Process, what: str) -> None:
        """A process is at a point where it can be killed. The caller has to look whether it was."""
        if self.on_step is not None and process.alive:
            self.on_step(process, what)

    def lasts(self, usual_s: float, seldom_s: float = 0.0, seldom: float = 0.03) -> float:
        """How long something takes: about ``usual_s``, and seldom up to ``seldom_s`` more."""
        rng = self.rng
        seconds = usual_s * (0.3 + 1.4 * rng.random())
        if seldom_s and rng.random() < seldom:
            seconds += seldom_s * rng.random()
        return seconds
