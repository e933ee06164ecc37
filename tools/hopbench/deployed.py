"""Puts the bench's own programs into hosts."""

from __future__ import annotations

from pathlib import Path

import hoplab
from hoplab import Host

from . import inside

TOP = "/opt/hopbench"
ENVIRONMENT = {"PYTHONPATH": f"{TOP}:/opt/streamhop:/opt/hoplab/site"}
OBSERVED = "/usr/local/bin/streamhop-observed"
SAMPLED = "/usr/local/bin/streamhop-sampled"
_LAUNCHER = f"""\
#!/usr/bin/python3 -I
import sys

sys.path[:0] = ["/opt/streamhop", "/opt/hoplab/site", "{TOP}"]
from hopbench.inside.{{module}} import main

sys.exit(main())
"""


def deploy_programs(host: Host) -> None:
    """Install what is in ``inside``, and what that needs, into a host."""
    folder = Path(inside.__file__).parent
    host.put(folder, f"{TOP}/hopbench/inside")
    for name in ("__init__.py", "floor.py"):
        host.put(folder.parent / name, f"{TOP}/hopbench/{name}")
    for name in ("__init__.py", "probe.py"):
        host.put(Path(hoplab.__file__).parent / name, f"{TOP}/hoplab/{name}")
    for path, module in ((OBSERVED, "observed_daemon"), (SAMPLED, "loop_lag")):
        host.write(path, _LAUNCHER.format(module=module), mode=0o755)


def program(name: str, *arguments: str) -> list[str]:
    """The command line of a program of ``inside``; run it with :data:`ENVIRONMENT`."""
    return ["python3", "-m", f"hopbench.inside.{name}", *arguments]
