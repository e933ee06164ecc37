"""Routes of the control API.

==========  ==========================  ==========================================================
GET         /v1/version                 versions of this daemon and of what it works with
GET         /v1/containers              running containers
GET         /v1/peers                   peers from the configuration and whether they answer
GET         /v1/moves                   moves this daemon knows of
POST        /v1/moves                   start a move; 202 with its ID
GET         /v1/handovers               what the journal remembers of every move, in both directions
POST        /v1/handovers/MOVE/claim    start here what waits for GO; the source must be fenced off
POST        /v1/handovers/MOVE/reclaim  let go on here what was released; the target must be fenced off
GET         /v1/moves/ID                one move
GET         /v1/moves/ID/events         its events as one JSON object a line, until it ends
DELETE      /v1/moves/ID                cancel it; the answer says whether it was not too late
==========  ==========================  ==========================================================

Errors are ``{"code", "reason", "fix", "exit_code", "runs_at"}`` with a 4xx or 5xx status.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from streamhop.config import ConfigError, check_limit
from streamhop.handover.errors import MoveError
from streamhop.handover.failures import EXPECTED, as_move_error
from streamhop.handover.moves import MoveRequest, Moves, UnknownMoveError

from .peering import PeeringApi

_BODY_BYTES_MAX = 64 * 1024

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}")
"""Docker's rule for names, moby: daemon/names/names.go."""

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
    except MoveError as error:
        return web.json_response(error.as_json(), status=409)
    except EXPECTED as error:
        return web.json_response(as_move_error(error).as_json() | {"runs_at": "unknown"}, status=500)
    except web.HTTPException as error:
        return _refusal(error.status, "http", error.reason)


def move_request_from_json(body: Any) -> MoveRequest:
    """Check the body of ``POST /v1/moves``.

    :raises ConfigError: what is wrong with it.
    """
    if not isinstance(body, dict):
        raise ConfigError("the body must be a JSON object")
    unknown = set(body) - {"container", "peer", "new_name", "max_downtime_s", "max_rounds", "on_no_converge"}
    unknown.discard("limit_bytes_per_s")
    if unknown:
        raise ConfigError(f"unknown field {min(unknown)!r}")
    texts: dict[str, str] = {}
    for name in ("container", "peer"):
        text = body.get(name)
        if not isinstance(text, str) or not text:
            raise ConfigError(f"{name} must be a non-empty string")
        texts[name] = text
    new_name = body.get("new_name")
    if new_name is not None and (not isinstance(new_name, str) or not _NAME.fullmatch(new_name)):
        raise ConfigError(f"{new_name!r} is not a container's name: letters, digits, '_', '.' and '-', at least two")
    downtime = body.get("max_downtime_s")
    if downtime is not None and (isinstance(downtime, bool) or not isinstance(downtime, int | float) or downtime <= 0):
        raise ConfigError("max_downtime_s must be a positive number of seconds")
    rounds = body.get("max_rounds")
    if rounds is not None and (isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= 100):
        raise ConfigError("max_rounds must be a whole number from 1 to 100")
    unmet = body.get("on_no_converge")
    if unmet not in (None, "go", "abort"):
        raise ConfigError("on_no_converge must be 'go' or 'abort'")
    limit = body.get("limit_bytes_per_s")
    if limit is not None:
        check_limit(limit, "limit_bytes_per_s")
    return MoveRequest(
        container=texts["container"],
        peer=texts["peer"],
        new_name=new_name,
        downtime_s_max=downtime,
        rounds_max=rounds,
        on_no_converge=unmet,
        limit_bytes_per_s=limit,
    )


def _move_id(request: web.Request) -> bytes:
    text = request.match_info["move"]
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no move's ID") from None


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
                web.post("/v1/handovers/{move}/claim", self._claim),
                web.post("/v1/handovers/{move}/reclaim", self._reclaim),
                web.get("/v1/moves", self._list),
                web.post("/v1/moves", self._start),
                web.get("/v1/moves/{id}", self._show),
                web.get("/v1/moves/{id}/events", self._events),
                web.delete("/v1/moves/{id}", self._cancel),
            ]
        )
        if self._peering is not None:
            app.add_routes(self._peering.routes())
        return app

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response(await self._moves.versions())

    async def _containers(self, _request: web.Request) -> web.Response:
        return web.json_response(await self._moves.containers())

    async def _peers(self, _request: web.Request) -> web.Response:
        return web.json_response(await self._moves.peers())

    async def _handovers(self, _request: web.Request) -> web.Response:
        found = await self._moves.handovers()
        return web.json_response(
            [
                {
                    "move": record.move.hex(),
                    "role": record.role.value,
                    "epoch": record.epoch,
                    "state": record.state.value,
                    "settled": not record.unsettled,
                    "container": record.details.get("name"),
                    "peer": record.details.get("peer"),
                    "details": dict(record.details),
                }
                for record in found
            ]
        )

    async def _claim(self, request: web.Request) -> web.Response:
        await self._moves.claim(_move_id(request))
        return web.json_response({}, status=202)

    async def _reclaim(self, request: web.Request) -> web.Response:
        await self._moves.reclaim(_move_id(request))
        return web.json_response({}, status=202)

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response(self._moves.list())

    async def _start(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"the body is not JSON: {error}") from error
        operation = self._moves.start(move_request_from_json(body))
        return web.json_response({"id": operation.id}, status=202)

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response(self._moves.get(request.match_info["id"]).as_json())

    async def _cancel(self, request: web.Request) -> web.Response:
        cancelling = self._moves.cancel(request.match_info["id"])
        return web.json_response({"cancelling": cancelling}, status=202)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        operation = self._moves.get(request.match_info["id"])
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            async for event in operation.log.follow():
                await response.write(json.dumps(event).encode() + b"\n")
        except ConnectionResetError:  # the reader went away; the move goes on
            return response
        await response.write_eof()
        return response


@asynccontextmanager
async def serve_control(moves: Moves, socket_path: Path, peering: PeeringApi | None = None) -> AsyncIterator[None]:
    """Serve the API on ``socket_path`` (mode 0600) while the context is open.

    :raises OSError: the socket cannot be made, or another daemon serves it.
    """
    socket_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    await _remove_stale(socket_path)
    runner = web.AppRunner(ControlApi(moves, peering).application(), access_log=None)
    await runner.setup()
    mask = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(socket_path)).start()
    finally:
        os.umask(mask)
    try:
        yield
    finally:
        await runner.cleanup()
        socket_path.unlink(missing_ok=True)


async def _remove_stale(socket_path: Path) -> None:
    try:
        _, writer = await asyncio.open_unix_connection(str(socket_path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        socket_path.unlink()
        return
    writer.close()
    await writer.wait_closed()
    raise OSError(f"another daemon already serves {socket_path}")
