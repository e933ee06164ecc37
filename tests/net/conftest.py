"""Every test of this room leaves nothing behind: no task, no thread, no file descriptor."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop
from support.net_helpers import until
from support.net_security import Device


def _sockets() -> set[str]:
    """Inodes of this process's TCP sockets; event loops have Unix sockets of their own, which come and go."""
    tcp = {line.split()[9] for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]}
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.add(target[len("socket:[") : -1])
    return found & tcp


def _codec_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("streamhop-codec")]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The daemon runs on uvloop, tools may run on asyncio's own loop: they buffer and pause differently."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
async def _nothing_left_behind() -> AsyncIterator[None]:
    tasks_before, sockets_before = asyncio.all_tasks(), _sockets()
    yield
    gc.collect()
    await until(lambda: _sockets() <= sockets_before and not _codec_threads())
    left = asyncio.all_tasks() - tasks_before - {asyncio.current_task()}
    assert not left


@pytest.fixture
def a(tmp_path: Path) -> Device:
    return Device(tmp_path, "a")


@pytest.fixture
def b(tmp_path: Path) -> Device:
    return Device(tmp_path, "b")
