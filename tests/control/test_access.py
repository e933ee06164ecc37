"""The control socket is root's, or a group's, and what lies beside it stays shut."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streamhop.config import Config, ConfigError
from streamhop.control.access import Access
from streamhop.control.api import serve_control

GROUP = 4711


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@asynccontextmanager
async def served(access: Access) -> AsyncIterator[None]:
    moves: Any = object()
    async with serve_control(moves, access):
        yield


async def test_the_socket_is_roots_alone_by_default(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    async with served(Access(path)):
        assert (mode_of(path.parent), mode_of(path)) == (0o700, 0o600)
    assert not path.exists()


@pytest.mark.root
async def test_a_group_gets_the_socket_and_may_only_go_through_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    async with served(Access(path, GROUP)):
        assert (mode_of(path.parent), path.parent.stat().st_gid) == (0o710, GROUP)
        assert (mode_of(path), path.stat().st_uid, path.stat().st_gid) == (0o660, os.getuid(), GROUP)
    async with served(Access(path, GROUP)):
        assert mode_of(path.parent) == 0o710


@pytest.mark.root
async def test_a_directory_that_is_open_anyway_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    before = tmp_path.stat()
    async with served(Access(tmp_path / "control.sock", GROUP)):
        assert (tmp_path.stat().st_mode, tmp_path.stat().st_gid) == (before.st_mode, before.st_gid)


def test_a_group_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no group 'nobody-has-this'"):
        Access.from_config(Config(control_group="nobody-has-this"))


def test_groups_are_found_by_name() -> None:
    assert Access.from_config(Config(control_group="root")).group == 0
    assert Access.from_config(Config()).group is None


async def test_a_second_daemon_is_refused_and_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with served(Access(path)):
        with pytest.raises(OSError, match="another daemon"):
            async with served(Access(path)):
                pass
        assert path.exists()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    async with served(Access(path)):
        assert path.is_socket()
