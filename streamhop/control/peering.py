"""Routes of the control API about this host's identity and its peers.

==========  ==========================  ==========================================================
GET         /v1/identity                this daemon's name and ID
POST        /v1/invitations             a pairing token: ``{"seconds": 600, "name": null}``
POST        /v1/peers                   use a pairing token: ``{"token": ..., "name": null}``
PATCH       /v1/peers/NAME              rename a peer: ``{"name": ...}``
DELETE      /v1/peers/NAME              unpair
==========  ==========================  ==========================================================

``NAME`` may also be an ID or the beginning of one. What the two POSTs answer has a ``warning``, a text or null.
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from streamhop.config import ConfigError
from streamhop.identity import PairingToken, Peer
from streamhop.identity.peer_book import check_name
from streamhop.peering import Pairing, PeerDirectory

INVITATION_S_DEFAULT = 600.0
INVITATION_S_MAX = 86_400.0


class PeeringApi:
    """HTTP handlers over the peer directory.

    :param pairing: None if sessions are in the clear.
    """

    def __init__(self, name: str, directory: PeerDirectory, pairing: Pairing | None) -> None:
        self._name = name
        self._directory = directory
        self._pairing = pairing

    def routes(self) -> list[web.RouteDef]:
        """Every route of this module."""
        return [
            web.get("/v1/identity", self._identity),
            web.post("/v1/invitations", self._invite),
            web.post("/v1/peers", self._pair),
            web.patch("/v1/peers/{name}", self._rename),
            web.delete("/v1/peers/{name}", self._unpair),
        ]

    @property
    def _ready(self) -> Pairing:
        if self._pairing is None:
            raise ConfigError("plaintext is set in the configuration: there is nothing to pair")
        return self._pairing

    async def _identity(self, _request: web.Request) -> web.Response:
        identity = self._directory.identity
        return web.json_response({"name": self._name, "id": str(identity.id) if identity is not None else None})

    async def _invite(self, request: web.Request) -> web.Response:
        body = await _body(request, {"seconds", "name"})
        seconds = body.get("seconds", INVITATION_S_DEFAULT)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= INVITATION_S_MAX:
            raise ConfigError(f"seconds must be a number up to {INVITATION_S_MAX:.0f}")
        token = self._ready.invite(seconds, _name(body))
        return web.json_response({"token": str(token), "seconds": seconds, "warning": self._ready.warning}, status=201)

    async def _pair(self, request: web.Request) -> web.Response:
        body = await _body(request, {"token", "name"})
        peer = await self._ready.accept(PairingToken.parse(str(body.get("token"))), _name(body))
        return web.json_response({**_shown(peer), "warning": self._ready.warning}, status=201)

    async def _rename(self, request: web.Request) -> web.Response:
        body = await _body(request, {"name"})
        peer = self._directory.rename(request.match_info["name"], str(body.get("name")))
        return web.json_response(_shown(peer))

    async def _unpair(self, request: web.Request) -> web.Response:
        peer = self._directory.remove(request.match_info["name"])
        return web.json_response(_shown(peer))


def _shown(peer: Peer) -> dict[str, Any]:
    return {"name": peer.name, "id": str(peer.id), "addresses": [str(address) for address in peer.addresses]}


def _name(body: dict[str, Any]) -> str | None:
    name = body.get("name")
    return None if name is None else check_name(str(name))


async def _body(request: web.Request, known: set[str]) -> dict[str, Any]:
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict) or set(body) - known:
        raise ConfigError(f"the body must be an object of {', '.join(sorted(known))}")
    return body
