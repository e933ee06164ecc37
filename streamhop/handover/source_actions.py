"""What the source does to its own container besides reading it: freeze, thaw, let go. Used by a move and by recovery.

Each is safe to repeat: recovery cannot know how far the last one came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamhop.engine.announcements import announce_addresses
from streamhop.engine.docker import Conflict, Engine, NotFound
from streamhop.engine.netgate import close_gate, open_gate

_NEVER = ("", "no")
"""How Docker writes that a container is not restarted."""


async def freeze(engine: Engine, container: str, init_pid: int) -> bool:
    """Close the network gate, then pause.

    The gate comes first: what the kernel of a frozen container acknowledged, the dump would not hold.

    :returns: False if somebody else had paused the container.
    """
    await close_gate(init_pid)
    try:
        await engine.pause(container)
    except Conflict:
        if (await engine.inspect_container(container))["State"]["Paused"]:
            return False
        raise
    return True


async def stays_frozen(engine: Engine, container: str, init_pid: int) -> bool:
    """Whether what was dumped has not gone on here and will not. Ask once restarts are forbidden.

    A dockerd that was restarted meanwhile may have started the container afresh, or somebody may have unpaused it. One
    that has ended is no obstacle: nothing starts it again, and the target has all of it.
    """
    state = (await engine.inspect_container(container))["State"]
    return not state["Running"] or (state["Paused"] and state["Pid"] == init_pid)


async def thaw(engine: Engine, container: str, *, unpause: bool = True, announce: bool = False) -> None:
    """Make the container go on as before a freeze, whichever part of the freeze was done.

    :param unpause: False if somebody else had paused it: it stays so.
    :param announce: whether its neighbours may believe by now that its addresses are at the target.
    """
    state = (await engine.inspect_container(container))["State"]
    if not state["Running"]:
        return
    await open_gate(state["Pid"])
    if state["Paused"] and unpause:
        await engine.unpause(container)
    if announce:
        await announce_addresses(state["Pid"])


async def forbid_restart(engine: Engine, container: str) -> None:
    """Make sure that neither dockerd nor a reboot brings the container up again."""
    await engine.update_restart_policy(container, {"Name": "no", "MaximumRetryCount": 0})


async def allow_restart(engine: Engine, container: str, policy: Mapping[str, Any]) -> None:
    """Give the container its restart policy back, and the start that dockerd or a reboot would have given it meanwhile.

    That is a start from disk, as after any crash. What somebody has stopped meanwhile stays stopped.
    """
    if policy.get("Name") in (None, *_NEVER):
        return
    found = await engine.inspect_container(container)
    was_forbidden = (found["HostConfig"].get("RestartPolicy") or {}).get("Name", "no") in _NEVER
    state = found["State"]
    missed = was_forbidden and not state["Running"] and _restarts(policy, state)
    if missed and not await engine.was_asked_to_end(container, state):
        await engine.start(container)
    await engine.update_restart_policy(container, dict(policy))


def _restarts(policy: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Whether dockerd, when it starts, starts a container of this policy that ended as ``state`` says."""
    return policy["Name"] in ("always", "unless-stopped") or (
        policy["Name"] == "on-failure" and state.get("ExitCode", 0) != 0
    )


async def remove_moved(engine: Engine, container: str, *, silently: bool) -> None:
    """Remove the frozen copy of a container that runs elsewhere now.

    It is killed while frozen, so that it never runs another instruction, and with the gate open, so that its
    kernel closes the connections towards clients: they reconnect at once instead of waiting for a time-out.

    :param silently: the connections went with it: the gate stays closed until its network namespace is gone, so that
        nothing of this copy reaches a client.
    """
    try:
        state = (await engine.inspect_container(container))["State"]
        if state["Running"]:
            await (close_gate if silently else open_gate)(state["Pid"])
            await engine.kill(container)
        await engine.remove(container, force=True)
    except NotFound:
        return
