"""The control API over a real unix socket, with the moves faked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from streamhop.config import Address, ConfigError
from streamhop.control.access import Access
from streamhop.control.api import move_request_from_json, serve_control
from streamhop.control.checks import check_request_from_json
from streamhop.control.staging import stage_request_from_json
from streamhop.findings import Finding
from streamhop.handover.checking import CheckRequest, CheckResult
from streamhop.handover.connections import TcpChoice
from streamhop.handover.journal import Record
from streamhop.handover.move_ids import find_move
from streamhop.handover.operations import MoveRequest, Operation
from streamhop.handover.staging import StagedCopy, StageRequest
from streamhop.handover.states import Role, State
from streamhop.peering import PeerTarget
from streamhop.telemetry.events import Event


class FakeMoves:
    def __init__(self) -> None:
        self.operations: dict[bytes, Operation] = {}
        self.decided: list[tuple[str, bytes]] = []

    async def versions(self) -> dict[str, str]:
        return {"streamhop": "0"}

    async def containers(self) -> list[dict[str, Any]]:
        return []

    async def peers(self) -> list[dict[str, Any]]:
        return []

    async def rows(self) -> list[dict[str, Any]]:
        return [await self.show(move) for move in self.operations]

    async def show(self, move: bytes) -> dict[str, Any]:
        operation = self.operations[move]
        return {"id": operation.id, "running": operation.result is None}

    async def start(self, request: MoveRequest) -> Operation:
        if request.peer == ":":
            raise ConfigError("the host is missing")
        operation = Operation(request)
        self.operations[operation.move] = operation
        operation.log.emit("phase", phase="offer")
        return operation

    async def find(self, text: str) -> bytes:
        return find_move(text, self.operations)

    async def follow(self, move: bytes) -> AsyncIterator[Event]:
        async for event in self.operations[move].log.follow():
            yield event

    def cancel(self, move: bytes) -> bool:
        self.decided.append(("cancel", move))
        return True

    async def check(self, request: CheckRequest) -> CheckResult:
        self.checked = request
        return CheckResult(request.container, "edge-a", request.peer, [Finding("target.port", "port 80 is taken")])

    async def stage(self, request: StageRequest) -> list[StagedCopy]:
        self.staging = request
        return self.staged()

    def staged(self) -> list[StagedCopy]:
        peer = PeerTarget("edge-b", (Address("10.0.0.2", 4711),))
        return [StagedCopy("c1", "web", peer, 30.0, None, None, 2, 5_000_000, 2.5, 0.0, 60.0)]  # type: ignore[arg-type]

    @property
    def forwards(self) -> Any:
        """What is relayed: the ports of one move."""

        async def stop(move: bytes) -> None:
            self.decided.append(("stop", move))

        one = bytes.fromhex("ab" * 16)
        return SimpleNamespace(
            rows=lambda: [{"id": one.hex()}], find=lambda text: [one] if one.hex().startswith(text) else [], stop=stop
        )

    async def unstage(self, container: str, peers: list[str]) -> list[StagedCopy]:
        self.unstaged = container, peers
        return self.staged()

    async def claim(self, move: bytes) -> None:
        self.decided.append(("claim", move))

    async def reclaim(self, move: bytes) -> None:
        self.decided.append(("reclaim", move))

    def name_of_peer(self, reference: str) -> str:
        return {"MFZWI3D": "edge-b"}.get(reference, reference)

    async def handovers(self, move: bytes | None = None) -> list[Record]:
        found = [
            Record(known, Role.SOURCE, 1, State.RELEASED, {"name": "web", "peer": "MFZWI3D"})
            for known in self.operations
        ]
        return [record for record in found if move in (None, record.move)]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[FakeMoves, aiohttp.ClientSession]]:
    moves = FakeMoves()
    path = tmp_path / "run" / "control.sock"
    async with (
        serve_control(moves, Access(path)),  # type: ignore[arg-type]  # the fake has what the API uses
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
        moves.operations[bytes.fromhex(identifier)].end({"outcome": "moved"})
        last = json.loads(await answer.content.readline())
        assert last["result"] == {"outcome": "moved"}
        assert await answer.content.read() == b""
    async with client.delete(f"/v1/moves/{identifier[:8]}") as answer:
        assert answer.status == 202
        assert await answer.json() == {"id": identifier, "cancelling": True}
    assert moves.decided == [("cancel", bytes.fromhex(identifier))]
    async with client.get(f"/v1/moves/{identifier}") as answer:
        assert (await answer.json())["running"] is False


async def test_a_check_answers_with_all_findings(served: tuple[FakeMoves, aiohttp.ClientSession]) -> None:
    moves, http = served
    body = {"container": "web", "peer": "edge-b", "new_name": "web2"}
    async with http.post("/v1/checks", json=body) as answer:
        assert answer.status == 200
        found = await answer.json()
    assert moves.checked == CheckRequest("web", "edge-b", "web2")
    assert (found["exit_code"], found["findings"][0]["id"]) == (12, "target.port")
    async with http.post("/v1/checks", data=b"{") as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "usage")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "object"),
        ({"peer": "b"}, "container"),
        ({"container": "a"}, "peer"),
        ({"container": "", "peer": "b"}, "container"),
        ({"container": "a", "peer": 7}, "peer"),
        ({"container": "a", "peer": "b", "new_name": "-x"}, "not a container's name"),
        ({"container": "a", "peer": "b", "limit": 1}, "unknown field 'limit'"),
    ],
)
def test_what_a_check_may_not_ask(body: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_request_from_json(body)


async def test_what_is_relayed_is_listed_and_ended(served: tuple[FakeMoves, aiohttp.ClientSession]) -> None:
    moves, client = served
    async with client.get("/v1/forwards") as answer:
        assert await answer.json() == [{"id": "ab" * 16}]
    for text, status in (("abab", 200), ("aba", 404), ("cdcd", 404), ("..", 404), ("ABAB", 200)):
        async with client.delete(f"/v1/forwards/{text}") as answer:
            assert answer.status == status, text
    assert moves.decided == [("stop", bytes.fromhex("ab" * 16))] * 2


@pytest.mark.parametrize(
    ("field", "value"), [("tcp", "maybe"), ("tcp", 1), ("forward_s", 0), ("forward_s", -1), ("forward_s", "60s")]
)
def test_what_becomes_of_connections_and_ports_is_checked(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        move_request_from_json({"container": "web", "peer": "edge-b", field: value})


def test_connections_are_kept_where_they_can_be_unless_the_user_says_otherwise() -> None:
    body = {"container": "web", "peer": "edge-b"}
    assert move_request_from_json(body).tcp is TcpChoice.AUTO
    asked = move_request_from_json(body | {"tcp": "keep", "forward_s": 60})
    assert (asked.tcp, asked.forward_s) == (TcpChoice.KEEP, 60.0)


async def test_copies_are_asked_for_listed_and_ended(served: tuple[FakeMoves, aiohttp.ClientSession]) -> None:
    moves, client = served
    body = {"container": "web", "peers": ["edge-b"], "refresh_s": 30, "limit_bytes_per_s": 1e6}
    async with client.post("/v1/staged", json=body) as answer:
        assert answer.status == 202
    assert moves.staging == StageRequest("web", ("edge-b",), 30, 1e6)
    async with client.get("/v1/staged") as answer:
        (row,) = await answer.json()
    assert (row["staged_at"], row["expires_at"]) == ("1970-01-01T00:00:00+00:00", "1970-01-01T00:01:00+00:00")
    assert (row["container"], row["peer"], row["wire_bytes"]) == ("web", "edge-b", 5_000_000)
    async with client.delete("/v1/staged/web?peer=edge-b&peer=edge-c") as answer:
        assert answer.status == 200
    assert moves.unstaged == ("web", ["edge-b", "edge-c"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"container": ""}, "container"),
        ({"peers": []}, "peers"),
        ({"peers": "edge-b"}, "peers"),
        ({"peers": [1]}, "peers"),
        ({"refresh_s": 0.1}, "refresh_s"),
        ({"refresh_s": True}, "refresh_s"),
        ({"refresh_s": 1e9}, "refresh_s"),
        ({"limit_bytes_per_s": 1}, "limit_bytes_per_s"),
        ({"what": 1}, "unknown field"),
    ],
)
def test_what_cannot_be_staged_is_told(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        stage_request_from_json({"container": "web", "peers": ["edge-b"]} | change)
    with pytest.raises(ConfigError):
        stage_request_from_json([])


@pytest.mark.parametrize("decision", ["claim", "reclaim"])
async def test_every_route_takes_the_beginning_of_an_id(
    served: tuple[FakeMoves, aiohttp.ClientSession], decision: str
) -> None:
    moves, client = served
    operation = await moves.start(MoveRequest("web", "edge-b"))
    operation.end({"outcome": "moved"})
    short = operation.id[:6]
    async with client.post(f"/v1/handovers/{short}/{decision}") as answer:
        assert (answer.status, await answer.json()) == (202, {"id": operation.id})
    assert moves.decided == [(decision, operation.move)]
    async with client.get(f"/v1/handovers/{short}") as answer:
        (row,) = await answer.json()
        assert (row["move"], row["peer"], row["peer_name"]) == (operation.id, "MFZWI3D", "edge-b")
    async with client.get(f"/v1/moves/{short}/events") as answer:
        assert len((await answer.read()).splitlines()) == 2
    async with client.get("/v1/moves") as answer:
        assert [row["id"] for row in await answer.json()] == [operation.id]


@pytest.mark.parametrize(
    ("method", "route", "body", "status"),
    [
        ("GET", "/v1/moves/none", None, 404),
        ("GET", "/v1/moves/abcdef", None, 404),
        ("GET", "/v1/moves/abcdef/events", None, 404),
        ("GET", "/v1/handovers/abcdef", None, 404),
        ("POST", "/v1/handovers/abcdef/claim", None, 404),
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
        {"wait_healthy_s": 0},
        {"wait_healthy_s": "30s"},
        {"max_rounds": 1.5},
        {"on_no_converge": "wait"},
        {"auto_converge": "yes"},
        {"auto_converge": None},
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


def test_a_container_is_slowed_down_only_when_asked_and_then_has_more_rounds() -> None:
    asked = move_request_from_json({"container": "c", "peer": "p", "auto_converge": True}).policy(9.0)
    bounded = move_request_from_json({"container": "c", "peer": "p", "auto_converge": True, "max_rounds": 5})
    default = move_request_from_json({"container": "c", "peer": "p"}).policy(9.0)
    assert (asked.auto_converge, default.auto_converge) == (True, False)
    assert asked.rounds_max > default.rounds_max
    assert bounded.policy(9.0).rounds_max == 5
