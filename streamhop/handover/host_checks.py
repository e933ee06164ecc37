"""What is wrong with a host, whatever container comes or goes: its programs, their versions, its kernel."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from streamhop.engine.capabilities import HostCapabilities, problems
from streamhop.engine.kernel_probes import criu_check, kernel_findings
from streamhop.engine.known_bad import known_bad
from streamhop.findings import Finding


async def host_findings(capabilities: HostCapabilities, side: str) -> list[Finding]:
    """All findings about this host.

    :param side: ``source`` or ``target``: what this host is in the move.
    """
    kernel, checked = await asyncio.gather(asyncio.to_thread(kernel_findings), criu_check())
    found = [*problems(capabilities), *kernel, *checked]
    if side == "target":
        found = [replace(finding, reason=f"at the target, {finding.reason}") for finding in found]
    return [*found, *known_bad(capabilities.exact, side=side)]
