"""Routes of the control API about copies that are kept at other hosts ahead of a move.

==========  ==========================  ==========================================================
GET         /v1/staged                  the copies that this host keeps at others
POST        /v1/staged                  keep more: ``{"container", "peers", "refresh_s", "limit_bytes_per_s"}``; 202
DELETE      /v1/staged/CONTAINER        end those of a container; ``?peer=NAME``, once or more, only those there
==========  ==========================  ==========================================================
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from streamhop.config import ConfigError, check_limit
from streamhop.handover.moves import Moves
from streamhop.handover.staging import StagedCopy, StageRequest

REFRESH_S_MIN = 1.0
REFRESH_S_MAX = 86_400.0

_FIELDS = frozenset({"container", "peers", "refresh_s", "limit_bytes_per_s"})


def stage_request_from_json(body: Any) -> StageRequest:
    """Check the body of ``POST /v1/staged``.

    :raises ConfigError: what is wrong with it.
    """
    if not isinstance(body, dict):
        raise ConfigError("the body must be a JSON object")
    if unknown := set(body) - _FIELDS:
        raise ConfigError(f"unknown field {min(unknown)!r}")
    container, peers = body.get("container"), body.get("peers")
    if not isinstance(container, str) or not container:
        raise ConfigError("container must be a non-empty string")
    if not isinstance(peers, list) or not peers or not all(isinstance(peer, str) and peer for peer in peers):
        raise ConfigError("peers must be a list of names, at least one")
    refresh = body.get("refresh_s")
    if refresh is not None and (
        isinstance(refresh, bool)
        or not isinstance(refresh, int | float)
        or not REFRESH_S_MIN <= refresh <= REFRESH_S_MAX
    ):
        raise ConfigError(f"refresh_s must be a number of seconds from {REFRESH_S_MIN:g} to {REFRESH_S_MAX:g}")
    limit = body.get("limit_bytes_per_s")
    if limit is not None:
        check_limit(limit, "limit_bytes_per_s")
    return StageRequest(container, tuple(peers), refresh, limit)


class StagingApi:
    """HTTP handlers over the copies of one :class:`Moves`."""

    def __init__(self, moves: Moves) -> None:
        self._moves = moves

    def routes(self) -> list[web.RouteDef]:
        """Every route of this module."""
        return [
            web.get("/v1/staged", self._list),
            web.post("/v1/staged", self._stage),
            web.delete("/v1/staged/{container}", self._unstage),
        ]

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response(_rows(self._moves.staged()))

    async def _stage(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"the body is not JSON: {error}") from error
        return web.json_response(_rows(await self._moves.stage(stage_request_from_json(body))), status=202)

    async def _unstage(self, request: web.Request) -> web.Response:
        container = request.match_info["container"]
        ended = await self._moves.unstage(container, request.query.getall("peer", []))
        return web.json_response(_rows(ended))


def _rows(copies: Sequence[StagedCopy]) -> list[dict[str, Any]]:
    return [
        {
            "container": copy.name,
            "container_id": copy.container,
            "peer": copy.peer.name,
            "refresh_s": copy.refresh_s,
            "sending": copy.sending is not None,
            "times": copy.times,
            "wire_bytes": copy.wire_bytes,
            "seconds": round(copy.seconds, 3),
            "staged_at": _utc(copy.staged_at),
            "expires_at": _utc(copy.staged_at + copy.kept_s) if copy.staged_at is not None else None,
            "failure": copy.failure.as_json() if copy.failure is not None else None,
        }
        for copy in copies
    ]


def _utc(at: float | None) -> str | None:
    return None if at is None else dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="seconds")
