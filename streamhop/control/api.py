"""Routes of the control API.

==========  ==========================  ==========================================================
GET         /v1/version                 versions of this daemon and of what it works with
GET         /v1/containers              running containers
GET         /v1/peers                   the known peers and whether they answer
GET         /v1/moves                   every move that is remembered, in both directions
POST        /v1/moves                   start a move; 202 with its ID
GET         /v1/moves/ID                one move
GET         /v1/moves/ID/events         its events as one JSON object a line, until it ends
DELETE      /v1/moves/ID                cancel it; the answer says whether it was not too late
GET         /v1/kept                    what failed moves have brought here, kept for another attempt
DELETE      /v1/kept/KEY                remove some of that
GET         /v1/handovers               what the journal remembers of every move, in both directions
GET         /v1/handovers/ID            the same of one move
POST        /v1/handovers/ID/claim      start here what waits for GO; the source must be fenced off
POST        /v1/handovers/ID/reclaim    let go on here what was released; the target must be fenced off
==========  ==========================  ==========================================================

``ID`` may also be the beginning of one, of four digits or more, if it stands for one move.

Errors are ``{"code", "reason", "fix", "exit_code", "runs_at"}`` with a 4xx or 5xx status.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from streamhop.config import ConfigError, check_limit
from streamhop.handover.connections import TcpChoice
from streamhop.handover.errors import MoveError
from streamhop.handover.failures import EXPECTED, as_move_error
from streamhop.handover.journal import Record
from streamhop.handover.move_ids import UnknownMoveError
from streamhop.handover.moves import Moves
from streamhop.handover.operations import MoveRequest
from streamhop.identity import BadTokenError, PeerBookError
from streamhop.peering import PairingError

from .access import Access
from .checks import ChecksApi, new_name_in, required_text
from .forwarding import ForwardingApi
from .peering import PeeringApi
from .staging import StagingApi
from .surroundings import SURROUNDINGS_FIELDS, surroundings_in

_BODY_BYTES_MAX = 64 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _refusal(status: int, code: str, reason: str, fix: str = "", exit_code: int = 2) -> web.Response:
    body = {"code": code, "reason": reason, "fix": fix, "exit_code": exit_code, "runs_at": "unknown"}
    return web.json_response(body, status=status)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except UnknownMoveError as error:
        return _refusal(404, "unknown_move", str(error))
    except ConfigError as error:
        return _refusal(400, "usage", str(error))
    except (BadTokenError, PairingError, PeerBookError) as error:
        return _refusal(400, "usage", str(error), error.fix)
    except MoveError as error:
        return web.json_response(error.as_json(), status=409)
    except EXPECTED as error:
        return web.json_response(as_move_error(error).as_json() | {"runs_at": "unknown"}, status=500)
    except web.HTTPException as error:
        return _refusal(error.status, "http", error.reason)


_MOVE_FIELDS = frozenset(
    {
        "container",
        "peer",
        "new_name",
        "max_downtime_s",
        "max_rounds",
        "on_no_converge",
        "auto_converge",
        "limit_bytes_per_s",
        "reconnect_s",
        "wait_healthy_s",
        "tcp",
        "forward_s",
    }
    | SURROUNDINGS_FIELDS
)


def _seconds(body: dict[str, Any], name: str, *, zero: bool = False) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or (value == 0 and not zero):
        raise ConfigError(f"{name} must be a {'' if zero else 'positive '}number of seconds")
    return float(value)


def move_request_from_json(body: Any) -> MoveRequest:
    """Check the body of ``POST /v1/moves``.

    :raises ConfigError: what is wrong with it.
    """
    if not isinstance(body, dict):
        raise ConfigError("the body must be a JSON object")
    unknown = set(body) - _MOVE_FIELDS
    if unknown:
        raise ConfigError(f"unknown field {min(unknown)!r}")
    container, peer, new_name = required_text(body, "container"), required_text(body, "peer"), new_name_in(body)
    rounds = body.get("max_rounds")
    if rounds is not None and (isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= 100):
        raise ConfigError("max_rounds must be a whole number from 1 to 100")
    unmet = body.get("on_no_converge")
    if unmet not in (None, "go", "abort"):
        raise ConfigError("on_no_converge must be 'go' or 'abort'")
    slows_down = body.get("auto_converge", False)
    if not isinstance(slows_down, bool):
        raise ConfigError("auto_converge must be true or false")
    limit = body.get("limit_bytes_per_s")
    if limit is not None:
        check_limit(limit, "limit_bytes_per_s")
    tcp = body.get("tcp") or TcpChoice.AUTO.value
    if tcp not in [choice.value for choice in TcpChoice]:
        raise ConfigError("tcp must be 'keep', 'close' or 'auto'")
    return MoveRequest(
        container=container,
        peer=peer,
        new_name=new_name,
        downtime_s_max=_seconds(body, "max_downtime_s"),
        rounds_max=rounds,
        on_no_converge=unmet,
        auto_converge=slows_down,
        limit_bytes_per_s=limit,
        reconnect_s=_seconds(body, "reconnect_s", zero=True),
        healthy_s_max=_seconds(body, "wait_healthy_s"),
        surroundings=surroundings_in(body),
        tcp=TcpChoice(tcp),
        forward_s=_seconds(body, "forward_s"),
    )


def _handover(record: Record, peer_name: str) -> dict[str, Any]:
    return {
        "move": record.move.hex(),
        "role": record.role.value,
        "epoch": record.epoch,
        "state": record.state.value,
        "settled": not record.unsettled,
        "container": record.details.get("name"),
        "peer": record.details.get("peer"),
        "peer_name": peer_name,
        "details": dict(record.details),
    }


class ControlApi:
    """HTTP handlers over one :class:`Moves`."""

    def __init__(self, moves: Moves, peering: PeeringApi | None = None) -> None:
        self._moves = moves
        self._peering = peering

    def application(self) -> web.Application:
        """The aiohttp application with every route."""
        app = web.Application(middlewares=[_errors_as_json], client_max_size=_BODY_BYTES_MAX)
        app.add_routes(
            [
                web.get("/v1/version", self._version),
                web.get("/v1/containers", self._containers),
                web.get("/v1/peers", self._peers),
                web.get("/v1/handovers", self._handovers),
                web.get("/v1/handovers/{id}", self._handovers_of),
                web.post("/v1/handovers/{id}/claim", self._claim),
                web.post("/v1/handovers/{id}/reclaim", self._reclaim),
                web.get("/v1/moves", self._list),
                web.post("/v1/moves", self._start),
                web.get("/v1/moves/{id}", self._show),
                web.get("/v1/moves/{id}/events", self._events),
                web.delete("/v1/moves/{id}", self._cancel),
                web.get("/v1/kept", self._kept),
                web.delete("/v1/kept/{key}", self._drop_kept),
            ]
        )
        app.add_routes(ChecksApi(self._moves).routes())
        app.add_routes(StagingApi(self._moves).routes())
        app.add_routes(ForwardingApi(self._moves).routes())
        if self._peering is not None:
            app.add_routes(self._peering.routes())
        return app

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response(await self._moves.versions())

    async def _containers(self, _request: web.Request) -> web.Response:
        return web.json_response(await self._moves.containers())

    async def _peers(self, _request: web.Request) -> web.Response:
        return web.json_response(await self._moves.peers())

    async def _move(self, request: web.Request) -> bytes:
        """The move that a route names."""
        return await self._moves.find(request.match_info["id"])

    async def _handovers(self, _request: web.Request) -> web.Response:
        return web.json_response(self._shown(await self._moves.handovers()))

    async def _handovers_of(self, request: web.Request) -> web.Response:
        return web.json_response(self._shown(await self._moves.handovers(await self._move(request))))

    def _shown(self, records: Sequence[Record]) -> list[dict[str, Any]]:
        return [_handover(record, self._moves.name_of_peer(str(record.details.get("peer")))) for record in records]

    async def _claim(self, request: web.Request) -> web.Response:
        move = await self._move(request)
        await self._moves.claim(move)
        return web.json_response({"id": move.hex()}, status=202)

    async def _reclaim(self, request: web.Request) -> web.Response:
        move = await self._move(request)
        await self._moves.reclaim(move)
        return web.json_response({"id": move.hex()}, status=202)

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response(await self._moves.rows())

    async def _start(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"the body is not JSON: {error}") from error
        operation = await self._moves.start(move_request_from_json(body))
        return web.json_response({"id": operation.id}, status=202)

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response(await self._moves.show(await self._move(request)))

    async def _cancel(self, request: web.Request) -> web.Response:
        move = await self._move(request)
        return web.json_response({"id": move.hex(), "cancelling": self._moves.cancel(move)}, status=202)

    async def _kept(self, _request: web.Request) -> web.Response:
        found = await self._moves.kept()
        return web.json_response(
            [
                {
                    "key": kept.key,
                    "peer": kept.label.peer,
                    "peer_name": self._moves.name_of_peer(kept.label.peer),
                    "container": kept.label.container,
                    "image": kept.label.image,
                    "bytes": kept.size_bytes,
                    "expires_s": round(kept.expires_s),
                }
                for kept in found
            ]
        )

    async def _drop_kept(self, request: web.Request) -> web.Response:
        if not await self._moves.drop_kept(request.match_info["key"]):
            return _refusal(404, "unknown_kept", "nothing of that key is kept", "see `streamhop kept ls`", 1)
        return web.json_response({})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        move = await self._move(request)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            async for event in self._moves.follow(move):
                await response.write(json.dumps(event).encode() + b"\n")
        except ConnectionResetError:  # the reader went away; the move goes on
            return response
        await response.write_eof()
        return response


@asynccontextmanager
async def serve_control(moves: Moves, access: Access, peering: PeeringApi | None = None) -> AsyncIterator[None]:
    """Serve the API on a unix socket while the context is open.

    :raises OSError: the socket cannot be made, or another daemon serves it.
    """
    await access.clear()
    runner = web.AppRunner(ControlApi(moves, peering).application(), access_log=None)
    await runner.setup()
    with access.private():
        await web.UnixSite(runner, str(access.path)).start()
    try:
        access.admit()
        yield
    finally:
        await runner.cleanup()
        access.path.unlink(missing_ok=True)
