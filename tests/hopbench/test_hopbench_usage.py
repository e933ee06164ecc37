"""What the kernel counts, read right."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from hopbench.figures import busy_share
from hopbench.usage import LinkWatch, children_cpu_s, cpu_s, reset_peak

BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_children_count_once_they_were_waited_for() -> None:
    run = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}], check=True)"
    code = f"{run}; print(1, flush=True); input()"
    before = children_cpu_s()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 0.28 < cpu_s(process.pid) < 5
        process.communicate(b"\n")
    assert children_cpu_s() - before > 0.28
    assert cpu_s(process.pid) == 0.0


def peak_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:  # noqa: PTH123 - as short as it gets
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))


def test_a_peak_that_was_before_is_forgotten() -> None:
    code = "b = bytearray(100_000_000); del b; print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert peak_kb(process.pid) > 90_000
        reset_peak(process.pid)
        assert peak_kb(process.pid) < 60_000
        process.communicate(b"\n")


class Counting:
    """A link that carries 8 Mbit/s exactly."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def read(self) -> tuple[int, int]:
        """As :meth:`LinkCounters.read`."""
        return round((time.monotonic() - self._began) * 1e6), 0


@pytest.fixture
def watched() -> Iterator[LinkWatch]:
    with LinkWatch(Counting()) as watch:
        yield watch


def test_a_link_is_read_until_the_end(watched: LinkWatch) -> None:
    while watched.samples[-1].at_s - watched.samples[0].at_s < 1.2:
        time.sleep(0.01)
    assert len(watched.samples) > 5
    assert busy_share(watched.samples, 8e6, time.monotonic()) == pytest.approx(1.0, abs=0.05)
    assert busy_share(watched.samples, 32e6, time.monotonic()) == pytest.approx(0.25, abs=0.02)
