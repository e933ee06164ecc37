"""Memory to spare."""

from __future__ import annotations

from pathlib import Path

from streamhop.engine.host_memory import available_memory_bytes, free_swap_bytes


def test_what_the_kernel_says(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       100 kB\nMemAvailable:       42 kB\nSwapFree: 7 kB\n")
    assert available_memory_bytes(meminfo) == 42 * 1024
    assert free_swap_bytes(meminfo) == 7 * 1024


def test_a_kernel_that_says_nothing(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    assert available_memory_bytes(meminfo) == 0
    meminfo.write_text("MemTotal:       100 kB\n")
    assert available_memory_bytes(meminfo) == 0


def test_this_host() -> None:
    assert available_memory_bytes() > 0
