"""The control API over a real unix socket, with the moves faked."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streamhop.config import ConfigError
from streamhop.control.api import move_request_from_json, serve_control
from streamhop.handover.moves import MoveRequest, Operation, UnknownMoveError


class FakeMoves:
    def __init__(self) -> None:
        self.operations: dict[str, Operation] = {}
        self.cancelled: list[str] = []

    async def versions(self) -> dict[str, str]:
        return {"streamhop": "0"}

    async def containers(self) -> list[dict[str, Any]]:
        return []

    async def peers(self) -> list[dict[str, Any]]:
        return []

    def list(self) -> list[dict[str, Any]]:
        return [operation.as_json() for operation in self.operations.values()]

    def start(self, request: MoveRequest) -> Operation:
        if request.peer == ":":
            raise ConfigError("the host is missing")
        operation = Operation(request)
        self.operations[operation.id] = operation
        operation.log.emit("phase", phase="offer")
        return operation

    def get(self, identifier: str) -> Operation:
        if identifier not in self.operations:
            raise UnknownMoveError(f"there is no move {identifier}")
        return self.operations[identifier]

    def cancel(self, identifier: str) -> bool:
        self.cancelled.append(self.get(identifier).id)
        return True


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[FakeMoves, aiohttp.ClientSession]]:
    moves = FakeMoves()
    path = tmp_path / "run" / "control.sock"
    async with (
        serve_control(moves, path),  # type: ignore[arg-type]  # the fake has what the API uses
        aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(str(path))) as client,
    ):
        assert path.stat().st_mode & 0o777 == 0o600
        yield moves, client
    assert not path.exists()


async def test_a_move_is_started_followed_and_cancelled(
    served: tuple[FakeMoves, aiohttp.ClientSession],
) -> None:
    moves, client = served
    async with client.post("/v1/moves", json={"container": "web", "peer": "edge-b"}) as answer:
        assert answer.status == 202
        identifier = (await answer.json())["id"]
    async with client.get(f"/v1/moves/{identifier}/events") as answer:
        first = json.loads(await answer.content.readline())
        assert first["phase"] == "offer"
        moves.operations[identifier].end({"outcome": "moved"})
        last = json.loads(await answer.content.readline())
        assert last["result"] == {"outcome": "moved"}
        assert await answer.content.read() == b""
    async with client.delete(f"/v1/moves/{identifier}") as answer:
        assert answer.status == 202
    assert moves.cancelled == [identifier]
    async with client.get(f"/v1/moves/{identifier}") as answer:
        assert (await answer.json())["running"] is False


@pytest.mark.parametrize(
    ("method", "route", "body", "status"),
    [
        ("GET", "/v1/moves/none", None, 404),
        ("DELETE", "/v1/moves/none", None, 404),
        ("GET", "/v1/nothing", None, 404),
        ("POST", "/v1/moves", "[]", 400),
        ("POST", "/v1/moves", "{", 400),
        ("POST", "/v1/moves", '{"container": "c", "peer": ":"}', 400),
        ("POST", "/v1/moves", "x" * 70_000, 413),
    ],
)
async def test_errors_are_json_with_a_reason(
    served: tuple[FakeMoves, aiohttp.ClientSession], method: str, route: str, body: str | None, status: int
) -> None:
    _, client = served
    async with client.request(method, route, data=body) as answer:
        assert answer.status == status
        found = await answer.json()
    assert found["reason"]
    assert found["exit_code"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"container": ""},
        {"container": 3},
        {"peer": None},
        {"new_name": ""},
        {"new_name": "a"},
        {"new_name": "web 2"},
        {"new_name": "../web"},
        {"max_downtime_s": 0},
        {"max_downtime_s": True},
        {"max_downtime_s": "1"},
        {"max_rounds": 0},
        {"max_rounds": 1.5},
        {"on_no_converge": "wait"},
        {"limit_bytes_per_s": "20mbit"},
        {"limit_bytes_per_s": 39_999},
        {"limit_bytes_per_s": True},
        {"unknown": 1},
    ],
)
def test_what_a_request_may_not_say(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        move_request_from_json({"container": "c", "peer": "p", **change})


def test_a_target_the_user_named_is_kept_and_the_default_is_aimed_at() -> None:
    named = move_request_from_json({"container": "c", "peer": "p", "max_downtime_s": 0.2})
    default = move_request_from_json({"container": "c", "peer": "p"})
    assert named.policy(9.0).abort_if_unmet
    assert not default.policy(9.0).abort_if_unmet
    assert default.policy(9.0).seconds_max == 9.0


async def test_a_second_daemon_is_refused_and_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    moves: Any = FakeMoves()
    async with serve_control(moves, path):
        with pytest.raises(OSError, match="another daemon"):
            async with serve_control(moves, path):
                pass
        assert path.exists()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    async with serve_control(moves, path):
        assert path.is_socket()
