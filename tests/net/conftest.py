"""Every test of this room leaves nothing behind: no task, no thread, no file descriptor."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.net_helpers import until


def _sockets() -> set[str]:
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def _codec_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("streamhop-codec")]


@pytest.fixture(autouse=True)
async def _nothing_left_behind() -> AsyncIterator[None]:
    tasks_before, sockets_before = asyncio.all_tasks(), _sockets()
    yield
    gc.collect()
    await until(lambda: _sockets() <= sockets_before and not _codec_threads())
    left = asyncio.all_tasks() - tasks_before - {asyncio.current_task()}
    assert not left
