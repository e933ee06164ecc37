"""What becomes of a container's open TCP connections: they come along, or they are closed at the target at once.

They can come along where the container keeps its addresses: each of its networks must be a segment that both hosts are
on (:mod:`streamhop.content.container_config.segments`). The source says what it wishes in OFFER, the target what it
will do in ACCEPT::

    OFFER    attributes  tcp: {"must": bool, "endpoints": [...]}
    ACCEPT   attributes  tcp: {"keep": bool, "reason": text}

A target that says nothing closes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from streamhop.content.container_config import (
    Endpoint,
    connected,
    endpoint_on,
    endpoints_from_wire,
    misfit,
    outside,
)
from streamhop.engine.connections import remote_ends
from streamhop.engine.docker import Engine, NotFound
from streamhop.findings import Finding, found
from streamhop_protocol.errors import MalformedError, UnexpectedError

from .errors import PreflightError
from .failures import plain
from .manifest import Manifest

TCP = "tcp"
"""The attribute of OFFER and of ACCEPT."""

REASON_CHARACTERS_MAX = 300

HOW_TO_KEEP = (
    "join the two hosts' networks, give both the label streamhop.segment=NAME (docker network create --label) and the "
    "same subnet; or say --tcp close"
)


class TcpChoice(Enum):
    """What a user can ask for."""

    KEEP = "keep"
    """Keep them, or do not move."""

    CLOSE = "close"
    AUTO = "auto"
    """Keep them where that can be."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the source asks of the target."""

    must: bool
    """Whether the move ends if they cannot be kept."""

    endpoints: tuple[Endpoint, ...]
    """Where the container has its addresses; nowhere, if it has but loopback."""

    lost: int = 0
    """Connections that will not live on although they are kept: they come through the source host itself."""

    def to_wire(self) -> dict[str, Any]:
        """The attribute of OFFER."""
        return {"must": self.must, "endpoints": [endpoint.to_wire() for endpoint in self.endpoints]}

    @classmethod
    def from_wire(cls, value: object) -> Wish:
        """Check a peer's word.

        :raises MalformedError: it is none.
        :raises LimitError: it is too large.
        """
        if not isinstance(value, dict) or value.keys() != {"must", "endpoints"} or type(value["must"]) is not bool:
            raise MalformedError("OFFER: tcp is not a map of must and endpoints")
        return cls(value["must"], endpoints_from_wire(value["endpoints"]))


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether connections are kept, and if not, why not."""

    keep: bool
    reason: str = ""

    def to_wire(self) -> dict[str, Any]:
        """The attribute of ACCEPT."""
        return {"keep": self.keep, "reason": self.reason[:REASON_CHARACTERS_MAX]}

    @classmethod
    def from_wire(cls, value: object) -> Answer:
        """Check a peer's word.

        :raises UnexpectedError: it is none.
        """
        if value is None:
            return cls(keep=False)
        if not isinstance(value, dict) or type(value.get("keep")) is not bool:
            raise UnexpectedError("ACCEPT: tcp is not a map with keep")
        reason = value.get("reason", "")
        if not isinstance(reason, str) or len(reason) > REASON_CHARACTERS_MAX:
            raise UnexpectedError("ACCEPT: the reason of tcp is no short text")
        return cls(value["keep"], reason)


async def wish(engine: Engine, details: Mapping[str, Any], choice: TcpChoice) -> tuple[Wish | None, str]:
    """What to ask of the target about a container's connections, and why nothing is asked.

    :param details: what ``docker inspect`` prints about the container.
    :returns: None: they are closed. The reason is empty if that needs no word.
    :raises PreflightError: they must be kept and cannot be.
    :raises EngineError: Docker does not answer.
    """
    if choice is TcpChoice.CLOSE:
        return None, ""
    endpoints: list[Endpoint] = []
    reasons: list[str] = []
    for name, endpoint in connected(details).items():
        result = endpoint_on(name, endpoint, await engine.inspect_network(name))
        if isinstance(result, Endpoint):
            endpoints.append(result)
        else:
            reasons.append(result)
    if details.get("Config", {}).get("Tty"):
        reasons.append("it has a terminal, which has to be there before the network is")
    if not details.get("NetworkSettings", {}).get("Networks"):
        reasons.append("it is on no network")
    must = choice is TcpChoice.KEEP
    if reasons and must:
        raise PreflightError.of_several([_not_kept("container.connections", reason) for reason in reasons])
    if reasons:
        # Where nobody has named a segment nobody expects them to be kept.
        return None, "; ".join(reasons) if endpoints else ""
    lost = await _through_this_host(engine, details, endpoints)
    if lost and not must:
        return None, f"{lost} of them come through this host, not from the segment"
    return Wish(must, tuple(endpoints), lost), ""


async def _through_this_host(engine: Engine, details: Mapping[str, Any], endpoints: Sequence[Endpoint]) -> int:
    """How many connections end beyond the segments and are led there by this host's own gateway and ports.

    On a macvlan network the gateway is a machine of the segment, and goes on leading them.
    """
    for endpoint in endpoints:
        if (await engine.inspect_network(endpoint.network))["Driver"] == "bridge":
            break
    else:
        return 0
    try:
        remotes = await asyncio.to_thread(remote_ends, int(details["State"]["Pid"]))
    except OSError as error:
        reason = f"they cannot be looked at: {plain(error)}"
        raise PreflightError.of_several([_not_kept("container.connections", reason)]) from error
    return len(outside(remotes, endpoints))


def told(asked: Wish, answer: Answer) -> str:
    """What the user is told about the connections of a container."""
    if not answer.keep:
        reason = f": {answer.reason}" if answer.reason else ""
        return f"open connections will be closed at the target{reason}"
    if asked.lost:
        return f"open connections are kept, but {asked.lost} of them come through this host and will time out"
    return "open connections are kept"


def _not_kept(kind: str, reason: str) -> Finding:
    return found(kind, f"its connections cannot be kept: {reason}", HOW_TO_KEEP)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the target makes of what the source asks about connections."""

    kept: Wish | None = None
    """The addresses that the container keeps, and its open connections with them; None: these are closed."""

    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Of ACCEPT: the answer, if the source has asked."""

    findings: Sequence[Finding] = ()
    """Why the container may not come, if they must be kept and cannot be."""


async def judge(engine: Engine, manifest: Manifest, attributes: Mapping[str, Any]) -> Judgement:
    """Whether the target can give a container the addresses that it has at the source.

    :param attributes: of OFFER.
    :raises MalformedError: what is asked makes no sense.
    :raises LimitError: it is too large.
    :raises EngineError: Docker does not answer.
    """
    if attributes.get(TCP) is None:
        return Judgement()
    asked = Wish.from_wire(attributes[TCP])
    if not {endpoint.network for endpoint in asked.endpoints} <= set(manifest.request.networks):
        raise MalformedError("OFFER: tcp names a network that the container is not on")
    reasons = []
    for endpoint in asked.endpoints:
        try:
            network: Mapping[str, Any] = await engine.inspect_network(endpoint.network)
        except NotFound:
            network = {}
        if (reason := misfit(endpoint, network)) is not None:
            reasons.append(reason)
    answer = Answer(not reasons, "; ".join(reasons))
    findings = [_not_kept("target.connections", reason) for reason in reasons] if asked.must else []
    return Judgement(asked if answer.keep else None, {TCP: answer.to_wire()}, findings)
