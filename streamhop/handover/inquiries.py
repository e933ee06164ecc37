"""What people ask about a host besides its moves: versions, containers, peers."""

from __future__ import annotations

import asyncio
from typing import Any

from streamhop import __version__
from streamhop.engine.capabilities import host_capabilities
from streamhop.engine.processes import container_pids, resident_bytes
from streamhop.peering import PeerTarget

from .failures import EXPECTED, plain
from .host import Host


async def versions(host: Host) -> dict[str, str]:
    """Versions of this daemon and of what it works with.

    :raises EngineError: Docker does not answer.
    """
    found = await host_capabilities(host.engine)
    return {
        "streamhop": __version__,
        "docker": found.docker,
        "containerd": found.containerd,
        "runc": found.runc,
        "criu": found.criu,
        "kernel": found.kernel,
        "images": found.image_store,
    }


async def containers(host: Host) -> list[dict[str, Any]]:
    """Running containers: name, image, status, resident memory in bytes and in words.

    :raises EngineError: Docker does not answer.
    """
    rows = []
    for found in await host.engine.list_containers():
        details = await host.engine.inspect_container(found["Id"])
        processes = await asyncio.to_thread(container_pids, details["State"]["Pid"])
        memory = await asyncio.to_thread(resident_bytes, processes)
        rows.append(
            {
                "name": details["Name"].removeprefix("/"),
                "image": details["Config"]["Image"],
                "status": found["Status"],
                "memory": f"{memory / 1e6:.1f} MB",
                "memory_bytes": memory,
            }
        )
    return rows


async def peers(host: Host) -> list[dict[str, Any]]:
    """The known peers and whether they answer."""
    return list(await asyncio.gather(*(_ask_peer(host, target) for target in host.peers.all())))


async def _ask_peer(host: Host, target: PeerTarget) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": target.name,
        "id": str(target.peer.id) if target.peer is not None else None,
        "address": ", ".join(map(str, target.addresses)),
    }
    try:
        async with await host.peers.dial(target, connections=1) as session:
            rtt_s = session.rtt_s
            return {**row, "status": "answers", "rtt_ms": None if rtt_s is None else round(rtt_s * 1000, 1)}
    except EXPECTED as error:
        return {**row, "status": f"does not answer: {plain(error)}", "rtt_ms": None}
