"""Route of the control API that asks whether a container could be moved, without moving it.

==========  ==========================  ==========================================================
POST        /v1/checks                  ``{"container", "peer", "new_name"}``; all findings of both hosts
==========  ==========================  ==========================================================
"""

from __future__ import annotations

import json
import re
from typing import Any

from aiohttp import web

from streamhop.config import ConfigError
from streamhop.handover.checking import CheckRequest
from streamhop.handover.moves import Moves

from .surroundings import SURROUNDINGS_FIELDS, surroundings_in

_FIELDS = frozenset({"container", "peer", "new_name"}) | SURROUNDINGS_FIELDS

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}")
"""Docker's rule for names, moby: daemon/names/names.go."""


def required_text(body: dict[str, Any], name: str) -> str:
    """A field that must be a non-empty string.

    :raises ConfigError: it is not.
    """
    text = body.get(name)
    if not isinstance(text, str) or not text:
        raise ConfigError(f"{name} must be a non-empty string")
    return text


def new_name_in(body: dict[str, Any]) -> str | None:
    """The name that a container is to have at the target; None for the one that it has.

    :raises ConfigError: Docker would not take it.
    """
    new_name = body.get("new_name")
    if new_name is not None and (not isinstance(new_name, str) or not _NAME.fullmatch(new_name)):
        raise ConfigError(f"{new_name!r} is not a container's name: letters, digits, '_', '.' and '-', at least two")
    return new_name


def check_request_from_json(body: Any) -> CheckRequest:
    """Check the body of ``POST /v1/checks``.

    :raises ConfigError: what is wrong with it.
    """
    if not isinstance(body, dict):
        raise ConfigError("the body must be a JSON object")
    if unknown := set(body) - _FIELDS:
        raise ConfigError(f"unknown field {min(unknown)!r}")
    return CheckRequest(
        required_text(body, "container"), required_text(body, "peer"), new_name_in(body), surroundings_in(body)
    )


class ChecksApi:
    """The HTTP handler over one :class:`Moves`."""

    def __init__(self, moves: Moves) -> None:
        self._moves = moves

    def routes(self) -> list[web.RouteDef]:
        """Every route of this module."""
        return [web.post("/v1/checks", self._check)]

    async def _check(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"the body is not JSON: {error}") from error
        result = await self._moves.check(check_request_from_json(body))
        return web.json_response(result.as_json())
