"""Routes of the control API about ports that are relayed after a move.

==========  ==========================  ==========================================================
GET         /v1/forwards                what is relayed from here, and for how long still
DELETE      /v1/forwards/ID             end one; ``ID`` is that of the move, or its beginning
==========  ==========================  ==========================================================
"""

from __future__ import annotations

import re

from aiohttp import web

from streamhop.handover.move_ids import UnknownMoveError
from streamhop.handover.moves import Moves

_ID = re.compile(r"[0-9a-f]{4,32}")


class ForwardingApi:
    """HTTP handlers over the forwards of one :class:`Moves`."""

    def __init__(self, moves: Moves) -> None:
        self._moves = moves

    def routes(self) -> list[web.RouteDef]:
        """Every route of this module."""
        return [web.get("/v1/forwards", self._list), web.delete("/v1/forwards/{id}", self._stop)]

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response(self._moves.forwards.rows())

    async def _stop(self, request: web.Request) -> web.Response:
        text = request.match_info["id"].lower()
        found = self._moves.forwards.find(text) if _ID.fullmatch(text) else []
        if len(found) != 1:
            raise UnknownMoveError(f"{len(found) or 'no'} forwards begin so; see `streamhop forwards`")
        await self._moves.forwards.stop(found[0])
        return web.json_response({"id": found[0].hex()})
