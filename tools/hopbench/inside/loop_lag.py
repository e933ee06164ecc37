"""How late a daemon's event loop is: counted by milliseconds in a file that anybody may read while it runs.

A loop that is held up for 100 ms is late once, but whatever had been due meanwhile was late too. So it counts as each
of the moments at which the sampler would have looked.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import struct
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop

from streamhop import daemon
from streamhop.cli import main as streamhop

LAG_FILE = Path("/run/hopbench-loop-lag")
INTERVAL_S = 0.005
BUCKETS = 2001
"""By milliseconds; the last has all that is longer."""

_COUNT = struct.Struct("<Q")


class LagCounts:
    """The counts, in a file.

    :raises OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(BUCKETS * _COUNT.size))
        with path.open("r+b") as file:
            self._counts = mmap.mmap(file.fileno(), 0)

    def add(self, lag_s: float) -> None:
        """Count one wait that ended ``lag_s`` late."""
        while True:
            at = min(max(0, int(lag_s * 1000)), BUCKETS - 1) * _COUNT.size
            _COUNT.pack_into(self._counts, at, _COUNT.unpack_from(self._counts, at)[0] + 1)
            lag_s -= INTERVAL_S
            if lag_s <= 0:
                return

    def close(self) -> None:
        """Count no more; the file stays."""
        self._counts.close()


async def sample(counts: LagCounts) -> None:
    """Look at the running loop until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        counts.add(loop.time() - due)


@contextmanager
def counted_in(path: Path) -> Iterator[LagCounts]:
    """Counts that are closed in the end."""
    counts = LagCounts(path)
    try:
        yield counts
    finally:
        counts.close()


async def sampled(main: Coroutine[Any, Any, None], path: Path) -> None:
    """``main`` with a sampler beside it."""
    with counted_in(path) as counts:
        sampler = asyncio.ensure_future(sample(counts))
        try:
            await main
        finally:
            sampler.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sampler


def sample_daemon() -> None:
    """From now on the daemon of this program is sampled."""
    if daemon.uvloop is not uvloop:  # type: ignore[attr-defined]
        raise AssertionError("the loop is chosen elsewhere by now: this program must follow")
    sampling = SimpleNamespace(run=lambda main: uvloop.run(sampled(main, LAG_FILE)))
    daemon.uvloop = sampling  # type: ignore[assignment, attr-defined]


def main() -> None:
    """Entry of the program: ``streamhop``, sampled."""
    sample_daemon()
    streamhop()


if __name__ == "__main__":
    main()
