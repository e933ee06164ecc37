"""The target's answer to the question whether a container may come, and to those that only ask."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from weakref import WeakValueDictionary

from streamhop.content.container_config import admit
from streamhop.findings import Finding, findings_to_wire, found, refusing
from streamhop.net import PeerSession
from streamhop_protocol.messages import Accept, Offer, Refuse

from .connections import Judgement, judge
from .errors import MoveError, RefusedError
from .failures import EXPECTED, as_move_error
from .host import Host
from .manifest import Manifest
from .means import Means
from .offering import FINDINGS
from .refusing import refuse
from .target_policy import TargetPolicy, policy_of

log = logging.getLogger("streamhop.handover")

CHECKS_MAX = 4
"""Questions that are looked into at once, and"""

CHECKS_PER_PEER_MAX = 2
"""of one peer, so that others find a place."""

LOOK_S_MAX = 40.0
SEND_S_MAX = 10.0
"""Together less than whoever asks waits for the answer: :data:`.checking.ANSWER_S_MAX`."""


async def admission_findings(
    host: Host, means: Means, manifest: Manifest, policy: TargetPolicy, *, staged: bool = False
) -> list[Finding]:
    """What this host has to say about a container that would come; what refuses keeps it away.

    :param policy: towards the peer that offers it.
    :param staged: whether nothing will be started, and what comes is to be kept.
    :raises EngineError: Docker does not answer.
    """
    if not policy.accept:
        reason, fix = "the target takes no containers from this host", "[policy] there: accept = true"
        return [found("policy.accept", reason, fix)]
    if staged and not host.config.kept_s_max:
        reason, fix = "the target keeps nothing ahead of a move", "kept_s_max there: more than 0"
        return [found("policy.staging", reason, fix)]
    # Which runtime the source would have makes no difference: this host's own is used.
    asked = manifest.request.body["HostConfig"].get("Runtime", "")
    findings = admit(manifest.request, replace(policy.admission, runtimes=frozenset({asked})))
    return findings + await means.check_as_target(host, manifest, policy)


async def admit_offer(
    host: Host, means: Means, manifest: Manifest, policy: TargetPolicy, offer: Offer, *, staged: bool = False
) -> tuple[list[Finding], Judgement]:
    """As :func:`admission_findings`, and what becomes of open connections.

    :raises MalformedError: what is asked about connections makes no sense.
    :raises LimitError: it is too large.
    :raises EngineError: Docker does not answer.
    """
    findings = await admission_findings(host, means, manifest, policy, staged=staged)
    if not policy.accept:
        # Who may not come is not told about this host's networks.
        return findings, Judgement()
    judged = await judge(host.engine, manifest, offer.attributes)
    return [*findings, *judged.findings], judged


class Checks:
    """Questions of peers without a move: a few are looked into at once, the others wait for a bounded time."""

    def __init__(self, host: Host, means: Means) -> None:
        self._host = host
        self._means = means
        self._places = asyncio.Semaphore(CHECKS_MAX)
        self._places_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """Of each peer that asks at the moment, by its reference."""

    async def answer(self, session: PeerSession, offer: Offer) -> None:
        """Say what would be said to a move, and forget it: nothing is made, kept or written down.

        :raises SessionLost: the session is over.
        """
        own = self._places_of.setdefault(session.peer_reference, asyncio.Semaphore(CHECKS_PER_PEER_MAX))
        answer: Accept | Refuse
        try:
            async with asyncio.timeout(LOOK_S_MAX), own, self._places:
                answer = await _answer(self._host, self._means, session.peer_name, offer)
        except TimeoutError:
            late = MoveError(f"the target has not looked into it within {LOOK_S_MAX:.0f} s", "try again later")
            answer = refuse(offer.move, offer.epoch, late)
        try:
            # With its place given back: a peer that reads nothing keeps nobody else waiting.
            async with asyncio.timeout(SEND_S_MAX):
                await session.send(answer)
        except TimeoutError:
            log.info("%s does not read the answer to its check", session.peer_name)


async def _answer(host: Host, means: Means, peer_name: str, offer: Offer) -> Accept | Refuse:
    try:
        manifest = Manifest.from_wire(offer.manifest)
        findings, judged = await admit_offer(host, means, manifest, policy_of(host.config, peer_name), offer)
        if refusing(findings):
            error = RefusedError.of_several(refusing(findings))
            error.findings = findings
            return refuse(offer.move, offer.epoch, error)
        held = await means.held_layers(host.engine, manifest)
    except EXPECTED as failure:
        return refuse(offer.move, offer.epoch, as_move_error(failure))
    digests = dict.fromkeys(layer.digest for layer in manifest.image.layers)
    return Accept(
        move=offer.move,
        epoch=offer.epoch,
        lacks=[digest for digest in digests if digest not in held],
        reused=sorted(held),
        attributes={FINDINGS: findings_to_wire(findings), **judged.attributes},
    )
