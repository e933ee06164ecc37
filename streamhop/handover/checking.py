"""Whether a container could be moved, without moving it: what this host finds, and what the peer says.

Nothing is touched here, and nothing is begun there: the peer answers as it would answer a move, and forgets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streamhop.findings import Finding, refusing, told
from streamhop.peering import NoAddressError, NotPairedError, PeerTarget
from streamhop_protocol.errors import ProtocolError

from .concurrency import concluded
from .dialogue import Dialogue
from .errors import MoveError, PreflightError, RefusedError, UnreachableError
from .failures import EXPECTED, as_move_error, first_failure
from .host import Host
from .means import Means
from .move_ids import new_move_id
from .offering import ask
from .preflight import SourceContainer, find_container
from .reaching import reach
from .surroundings import DEFAULT, Surroundings

ANSWER_S_MAX = 60.0
"""How long the peer may take to look."""

FIRST_EPOCH = 1


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """What a user asks about; as of a move."""

    container: str
    peer: str
    new_name: str | None = None
    surroundings: Surroundings = DEFAULT


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found on both sides."""

    container: str
    source: str
    """Name of this host, and"""

    target: str
    """of the peer."""

    source_findings: Sequence[Finding]
    target_findings: Sequence[Finding] = ()
    target_failure: MoveError | None = None
    """Why the peer has said nothing; None if it has, or if it was not asked because there was nothing to ask about."""

    asked: bool = True
    """Whether the peer was asked."""

    memory_bytes: int = 0
    layer_bytes: int = 0
    """What the image has, and"""

    lacking_bytes: int = 0
    """what of it the target lacks."""

    @property
    def exit_code(self) -> int:
        """Of the command: that of a refusal by the preflight, of whatever kept the peer from answering, or 0."""
        if refusing([*self.source_findings, *self.target_findings]):
            return PreflightError.exit_code
        return self.target_failure.exit_code if self.target_failure is not None else 0

    def as_json(self) -> dict[str, Any]:
        """As the control API and ``--format json`` show it."""
        rows = [(self.source, "source", finding) for finding in self.source_findings]
        rows += [(self.target, "target", finding) for finding in self.target_findings]
        failure = self.target_failure
        return {
            "container": self.container,
            "source": self.source,
            "target": self.target,
            "exit_code": self.exit_code,
            "findings": [{**told(finding), "side": side, "host": host} for host, side, finding in rows],
            "target_asked": self.asked,
            "target_failure": failure.as_json() if failure is not None else None,
            "memory_bytes": self.memory_bytes,
            "layer_bytes": self.layer_bytes,
            "lacking_bytes": self.lacking_bytes,
        }


async def check(host: Host, means: Means, request: CheckRequest) -> CheckResult:
    """Look at a container, at this host and at the peer.

    :raises ConfigError: in the clear, the peer is neither a known name nor an address.
    :raises MoveError: there is no such container or peer, or an earlier move says where the container is.
    :raises EngineError: Docker does not answer.
    """
    try:
        peer = host.peers.find(request.peer)
    except (NotPairedError, NoAddressError) as error:
        raise as_move_error(error) from error
    here, there = host.config.name, peer.name
    try:
        details = await find_container(host, request.container)
    except PreflightError as error:
        if not error.findings:
            raise
        return CheckResult(request.container, here, there, error.findings, asked=False)
    name = details["Name"].removeprefix("/")
    checked = await means.inspect_as_source(host, details, request.new_name, request.surroundings)
    container = checked.container
    if container is None:
        return CheckResult(name, here, there, checked.findings, asked=False)
    findings: Sequence[Finding] = ()
    failure, lacking = None, 0
    try:
        findings, lacking = await _ask_peer(host, peer, container)
    except RefusedError as error:
        findings = error.findings
    except MoveError as error:
        failure = error
    return CheckResult(
        name,
        here,
        there,
        checked.findings,
        findings,
        failure,
        memory_bytes=container.manifest.memory_bytes,
        layer_bytes=sum(layer.size for layer in container.manifest.image.layers),
        lacking_bytes=lacking,
    )


async def _ask_peer(host: Host, peer: PeerTarget, container: SourceContainer) -> tuple[Sequence[Finding], int]:
    """What the peer says to the container, and how many bytes of its image it lacks.

    :raises RefusedError: it may not come.
    :raises MoveError: it does not answer.
    """
    session = await reach(host, peer, None)
    try:
        dialogue = Dialogue(session, new_move_id(), FIRST_EPOCH)
        async with asyncio.timeout(ANSWER_S_MAX), asyncio.TaskGroup() as group:
            listening = group.create_task(dialogue.listen())
            answer = await ask(dialogue, container.manifest)
            listening.cancel()
        return answer
    except TimeoutError:
        raise UnreachableError(f"{peer.name} has not answered within {ANSWER_S_MAX:.0f} s") from None
    except (*EXPECTED, BaseExceptionGroup) as error:
        cause = first_failure(error)
        if not isinstance(cause, EXPECTED):
            raise
        if isinstance(cause, ProtocolError):
            raise MoveError(
                f"what {peer.name} answers is not understood: {cause}", "do both hosts run the same version?"
            ) from error
        raise as_move_error(cause) from error
    finally:
        await concluded(session.close())
