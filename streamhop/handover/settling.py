"""Brings moves to their end that ended otherwise than planned: here first, then with the peer, until it is done."""

from __future__ import annotations

import asyncio
import logging
from itertools import chain, repeat

from .failures import EXPECTED, plain
from .hooks import pay_hooks
from .host import Host
from .journal import Record
from .settling_here import abort, settle_here, went_down_frozen
from .settling_with_peer import settle_with_peer
from .states import OWES_HOOKS, Role, State

log = logging.getLogger("streamhop.handover")

RETRY_S = (0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts; the last one is repeated. Short: a container in doubt runs nowhere meanwhile."""


PEER_FIRST_S_MAX = 30.0
"""How long a peer may take to say whether it has what went down frozen here; then it is started here."""


async def recover(host: Host) -> list[Record]:
    """What a daemon does at its start about the moves that were under way: all that it can do alone.

    :returns: moves that are not settled by that; :func:`settle` goes on with them.
    """
    unsettled = []
    for record in await asyncio.to_thread(host.journal.unsettled):
        if went_down_frozen(host, record):
            unsettled.append(record)
            continue
        try:
            newest = await settle_here(host, record)
        except (TimeoutError, *EXPECTED) as error:
            log.error("move %s (%s) is not settled yet: %s", record.move.hex()[:8], record.state.value, plain(error))
            newest = record
        except Exception:
            # One record that nobody can make sense of must not keep the daemon, and with it all other moves, down.
            log.exception("move %s (%s): a bug, it is not settled", record.move.hex()[:8], record.state.value)
            newest = record
        if newest.unsettled:
            unsettled.append(newest)
    return unsettled


async def settle(host: Host, move: bytes, role: Role) -> State | None:
    """Go on until nothing is left to do, to ask or to tell about a move.

    :returns: the state that it ended in here; None if the journal knows nothing of it.
    """
    told = ""
    peer_first_until = asyncio.get_running_loop().time() + PEER_FIRST_S_MAX
    for pause_s in chain(RETRY_S, repeat(RETRY_S[-1])):
        try:
            record = await asyncio.to_thread(host.journal.latest, move, role)
            if record is None:
                return None
            if went_down_frozen(host, record) and asyncio.get_running_loop().time() < peer_first_until:
                record = await settle_with_peer(host, await abort(host, record))
            if record.unsettled:
                record = await settle_here(host, record)
            if record.unsettled and role is Role.SOURCE:
                record = await settle_with_peer(host, record)
            if record.details.get(OWES_HOOKS):
                await pay_hooks(host, move, role, lambda _: None)
                record = await asyncio.to_thread(host.journal.latest, move, role) or record
            if not record.unsettled:
                return record.state
            reason = f"{role.value} is {record.state.value}, and the peer's answer did not change that"
        except (TimeoutError, *EXPECTED) as error:
            reason = plain(error)
        except Exception as error:
            log.exception("move %s: a bug, but the move has to end", move.hex()[:8])
            reason = plain(error)
        if reason != told:
            log.warning("move %s is not settled yet: %s", move.hex()[:8], reason)
            told = reason
        await asyncio.sleep(pause_s)
    raise AssertionError("unreachable")
