"""What a move works with on its host: configuration, engine, journal, restores. Made once by the daemon."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamhop.config import Config
from streamhop.engine.cpu_quota import CpuQuotas
from streamhop.engine.docker import Engine
from streamhop.engine.restores import RestoreServer
from streamhop.peering import PeerDirectory
from streamhop.telemetry.trace import Trace

from .concurrency import in_worker, uninterrupted
from .forwards import Forwards
from .journal import Journal, Record
from .kept import KeptContent
from .states import Role, State, StateMachine

log = logging.getLogger("streamhop.handover")


def kept_content(config: Config) -> KeptContent:
    """What failed moves have left on the host of ``config``. Make it once: it knows how old each is."""
    return KeptContent(config.state_dir / "kept", seconds_max=config.kept_s_max, bytes_max=config.kept_bytes_max)


def current_boot() -> str:
    """What tells this boot of the host from every other.

    The kernel's (proc_sys_kernel(5), ``random/boot_id``), and the start of its first process (proc_pid_stat(5), field
    22): a host that is a container itself boots without its kernel.
    """
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    first_process = Path("/proc/1/stat").read_text(encoding="utf-8", errors="replace")
    return f"{kernel}-{first_process.rpartition(')')[2].split()[19]}"


@dataclass(frozen=True, slots=True)
class Host:
    """This host, as a move sees it."""

    config: Config
    engine: Engine
    journal: Journal
    restores: RestoreServer
    peers: PeerDirectory
    kept: KeptContent
    images: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it is settled which layers a move counts on, or which images go; see :mod:`.brought_images`."""
    image_loads: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an image is loaded: the next move of the same image then finds it."""
    boot: str = field(default_factory=current_boot)
    cpu: CpuQuotas = field(default_factory=CpuQuotas)
    trace: Trace | None = None
    """Is told of phases and decisions, if the daemon is traced."""
    forwards: Forwards = field(init=False)
    """Ports of moved containers that are relayed from here."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the daemon ends: nothing new begins, and a cancel is nobody's wish."""

    def __post_init__(self) -> None:
        """A part that is made of others."""
        object.__setattr__(self, "forwards", Forwards(self.journal, self.boot))

    def spool(self, move: bytes) -> Path:
        """Where what arrives for ``move`` is kept until it is used; on disk."""
        return self.config.state_dir / "spool" / move.hex()

    @property
    def launchers(self) -> Path:
        """Programs that go before others of the same name."""
        return self.config.state_dir / "launchers"

    @property
    def logs(self) -> Path:
        """Where logs of CRIU are kept that has failed."""
        return self.config.state_dir / "logs"

    def dump_dir(self, move: bytes) -> Path:
        """Where the final dump of ``move`` is written; on a tmpfs."""
        return self.config.run_dir / "dumps" / move.hex()


class MoveJournal:
    """One move's view of the journal: check the transition, make it durable, then enter it."""

    def __init__(
        self,
        journal: Journal,
        move: bytes,
        role: Role,
        epoch: int,
        state: State | None = None,
        trace: Trace | None = None,
    ) -> None:
        self._journal = journal
        self._trace = trace
        self._move = move
        self._epoch = epoch
        self._machine = StateMachine(role, state)

    @property
    def state(self) -> State | None:
        """The state last entered."""
        return self._machine.state

    @property
    def committed(self) -> bool:
        """Whether this side may no longer end the move by itself."""
        return self._machine.committed

    async def enter(self, state: State, **details: Any) -> None:
        """Promise ``state``; returns when the promise is on disk. A cancel meanwhile comes after it is.

        :raises ForbiddenTransitionError: ``state`` may not follow.
        :raises sqlite3.Error: the promise may not be durable; do not act on it.
        """
        self._machine.check(state)
        await uninterrupted(self._enter(state, details))

    async def _enter(self, state: State, details: dict[str, Any]) -> None:
        machine = self._machine
        await asyncio.to_thread(self._journal.record, self._move, machine.role, self._epoch, state, **details)
        machine.advance(state)
        log.info("move %s: %s is %s", self._move.hex()[:8], machine.role.value, state.value)
        if self._trace is not None:
            role = machine.role.value
            self._trace.emit("move:state", move=self._move, role=role, epoch=self._epoch, state=state.value)

    async def note(self, **details: Any) -> None:
        """Add details to the newest record."""
        await in_worker(self._journal.note, self._move, self._machine.role, **details)

    async def latest(self) -> Record | None:
        """What the file says, which is what counts when a promise failed half way. The state follows it."""
        record = await in_worker(self._journal.latest, self._move, self._machine.role)
        self._machine = StateMachine(self._machine.role, record.state if record else None)
        return record
