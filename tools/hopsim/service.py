"""The service that is moved: a counter that runs in virtual time, and the outside sink that it reports to.

A copy of the service is its memory: ``life``, which a cold start raises, and ``n``, which every execution raises.
Executing is the only way to raise it, so two copies that continue the same ``n`` show as a rollback.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

TICKS_PER_S = 1000.0


@dataclass(frozen=True, slots=True)
class Image:
    """A dump of the service's memory."""

    life: int
    n: int

    @property
    def digest(self) -> bytes:
        """32 bytes that stand for the content."""
        return self.life.to_bytes(8, "big") + self.n.to_bytes(24, "big")


@dataclass(eq=False, slots=True)
class Copy:
    """The processes of one container."""

    where: str
    life: int
    n: int
    frozen: bool = False
    stopped: bool = False
    """Restored, and not let go yet."""

    executing_since: float | None = None
    executed: bool = False

    @property
    def executes(self) -> bool:
        """Whether it runs at this instant."""
        return self.executing_since is not None

    def image(self) -> Image:
        """What a dump holds."""
        return Image(self.life, self.n)


@dataclass(slots=True)
class Sink:
    """Hears of every execution, and complains when it is not the one copy's next."""

    violation: Callable[[str], None]
    life: int = 0
    newest: dict[int, int] = field(default_factory=dict)
    """Highest ``n`` heard of by life."""

    executing: list[Copy] = field(default_factory=list)

    def cold_start(self, where: str) -> Copy:
        """A service that starts from what is on disk."""
        self.life += 1
        self.newest[self.life] = 0
        return Copy(where, self.life, 0)

    def update(self, copy: Copy, now_s: float, *, alive: bool = True) -> None:
        """Note that ``copy`` may have begun or ended to execute."""
        runs = alive and not copy.frozen and not copy.stopped
        if runs and copy.executing_since is None:
            self._begin(copy, now_s)
        elif not runs and copy.executing_since is not None:
            copy.n += int((now_s - copy.executing_since) * TICKS_PER_S)
            self._report(copy)
            copy.executing_since = None
            self.executing.remove(copy)

    def _begin(self, copy: Copy, now_s: float) -> None:
        if self.executing:
            others = ", ".join(other.where for other in self.executing)
            self.violation(f"two copies run: {copy.where} (life {copy.life}, n {copy.n}) beside {others}")
        copy.executing_since = now_s
        copy.executed = True
        self.executing.append(copy)
        if copy.life < self.life:
            self.violation(f"rollback: {copy.where} runs life {copy.life} after life {self.life} was begun")
        if copy.n != self.newest[copy.life]:
            self.violation(f"rollback: {copy.where} goes on from n {copy.n}, reported was {self.newest[copy.life]}")
        copy.n += 1
        self._report(copy)

    def _report(self, copy: Copy) -> None:
        self.newest[copy.life] = max(self.newest[copy.life], copy.n)

    def go_back_to(self, copy: Copy) -> None:
        """An operator lets an older copy go on: what was executed after it is given up knowingly."""
        self.newest[copy.life] = copy.n

    def is_newest(self, copy: Copy) -> bool:
        """Whether nobody has got further than ``copy``."""
        return copy.executes or (copy.life == self.life and copy.n == self.newest[copy.life])
