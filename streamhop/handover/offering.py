"""How every conversation about a container begins: what it is, whether it may come, what of it is there already."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamhop.findings import Finding, findings_from_wire
from streamhop_protocol.errors import UnexpectedError
from streamhop_protocol.held_pages import HASH_SEED_BYTES
from streamhop_protocol.messages import Aborted, Accept, Offer

from .connections import TCP, Answer, Wish
from .dialogue import Dialogue
from .manifest import Manifest

STAGE = "stage"
"""Attribute of OFFER: nothing will be started, what comes is kept for a move that may follow."""

UNSTAGE = "unstage"
"""Attribute of OFFER: nothing will come, and what is kept of the container is to go."""

CHECK = "check"
"""Attribute of OFFER: nothing will come; the answer is what a move would be told, and is forgotten."""

FINDINGS = "findings"
"""Attribute of ACCEPT and REFUSE: all that the target has found."""

KEPT_S = "kept_s"
"""Attribute of ACCEPT that answers it: for how many seconds it is kept."""


KEPT_S_MAX = 30 * 86_400.0
"""More than that is not believed."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the target has said to an offer."""

    seed: int
    """Of the hashes by which the target tells what it holds."""

    wanted: frozenset[str]
    """Digests of the layers that have to come."""

    offsets: Mapping[str, int]
    """Bytes of some of them that are there already."""

    holds: bool
    """Whether the target will tell of pages and blocks that an earlier attempt has left there."""

    kept_s: float
    connections: Answer
    """What becomes of the container's open connections."""
    findings: Sequence[Finding] = ()
    """What the target warns of."""


async def offer(
    dialogue: Dialogue, manifest: Manifest, *, stage: bool = False, connections: Wish | None = None
) -> Accepted:
    """Offer a container to the peer, and wait for its answer.

    :param stage: see :data:`STAGE`.
    :param connections: None: they need not be kept.
    :raises RefusedError: it may not come.
    :raises UnexpectedError: the peer says what cannot be.
    :raises SessionLost: the session is over.
    """
    seed = secrets.token_bytes(HASH_SEED_BYTES)
    attributes: dict[str, object] = {"hash_seed": seed, **({STAGE: True} if stage else {})}
    if connections is not None:
        attributes[TCP] = connections.to_wire()
    await dialogue.session.send(
        Offer(move=dialogue.move, epoch=dialogue.epoch, manifest=manifest.to_wire(), attributes=attributes)
    )
    accepted = await dialogue.answer(Accept)
    sizes = {layer.digest: layer.size for layer in manifest.image.layers}
    return Accepted(
        int.from_bytes(seed),
        frozenset(accepted.lacks) & sizes.keys(),
        _begun(accepted, sizes),
        accepted.attributes.get("held") is True,
        _kept_s(accepted) if stage else 0.0,
        Answer(keep=False) if connections is None else Answer.from_wire(accepted.attributes.get(TCP)),
        findings_from_wire(accepted.attributes.get(FINDINGS, [])),
    )


async def ask(dialogue: Dialogue, manifest: Manifest) -> tuple[Sequence[Finding], int]:
    """Ask the peer whether a container could come, and no more.

    :returns: what it warns of, and how many bytes of the image it lacks.
    :raises RefusedError: it could not; the error has all findings.
    :raises ProtocolError: the peer says what cannot be.
    :raises SessionLost: the session is over.
    """
    await dialogue.session.send(
        Offer(move=dialogue.move, epoch=dialogue.epoch, manifest=manifest.to_wire(), attributes={CHECK: True})
    )
    accepted = await dialogue.answer(Accept)
    sizes = {layer.digest: layer.size for layer in manifest.image.layers}
    lacking = sum(sizes[digest] for digest in frozenset(accepted.lacks) & sizes.keys())
    return findings_from_wire(accepted.attributes.get(FINDINGS, [])), lacking


async def unstage(dialogue: Dialogue, manifest: Manifest) -> None:
    """Have the peer drop what it keeps of a container; returns when it has.

    :raises MoveError: it will not.
    :raises SessionLost: the session is over.
    """
    attributes = {UNSTAGE: True}
    await dialogue.session.send(
        Offer(move=dialogue.move, epoch=dialogue.epoch, manifest=manifest.to_wire(), attributes=attributes)
    )
    await dialogue.answer(Aborted)


def _begun(accepted: Accept, sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes of layers that the target has from an earlier attempt.

    :raises UnexpectedError: it says what cannot be.
    """
    begun = accepted.attributes.get("begun", {})
    if not isinstance(begun, dict):
        raise UnexpectedError("ACCEPT: begun is not a map")
    for digest, size in begun.items():
        if type(size) is not int or not 0 <= size < sizes.get(digest, 0):
            raise UnexpectedError("ACCEPT: more of a layer is begun than there is of it")
    return begun


def _kept_s(accepted: Accept) -> float:
    seconds = accepted.attributes.get(KEPT_S)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        raise UnexpectedError("ACCEPT of what is to be staged: kept_s is not a number of seconds")
    return min(float(seconds), KEPT_S_MAX)
