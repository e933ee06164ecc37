"""Put this checkout's streamhop into a host. The lab knows its folders, not its code."""

from __future__ import annotations

from .errors import LabError
from .host import Host
from .python_site import checkout

SITE = "/opt/streamhop"
"""Where a host finds the packages; on its Python's path in every host."""

_PACKAGES = {"streamhop": "streamhop", "streamhop_protocol": "protocol/streamhop_protocol"}

# The runtime is started for every container, so it skips what the interpreter would look for at start.
_SCRIPTS = {"streamhop": ("-I", "streamhop.cli"), "streamhop-runtime": ("-IS", "streamhop.engine.runtime")}

_SCRIPT = """\
#!/usr/bin/python3 {options}
import sys

sys.path[:0] = ["/opt/streamhop", "/opt/hoplab/site"]
from {module} import main

sys.exit(main())
"""


def deploy(host: Host) -> None:
    """Install streamhop into a host, over what was deployed before.

    :raises LabError: there is no checkout, or the host cannot take it.
    """
    top = checkout()
    missing = [folder for folder in _PACKAGES.values() if not (top / folder).is_dir()]
    if missing:
        raise LabError(f"{top} is no checkout of streamhop: no {', '.join(missing)}; HOPLAB_CHECKOUT names another")
    host.exec(["rm", "-rf", *(f"{SITE}/{package}" for package in _PACKAGES)])
    for package, folder in _PACKAGES.items():
        host.put(top / folder, f"{SITE}/{package}")
    for name, (options, module) in _SCRIPTS.items():
        host.write(f"/usr/local/bin/{name}", _SCRIPT.format(options=options, module=module), mode=0o755)
    # Bytecode now, so that no start is slower than another.
    host.exec(["python3", "-m", "compileall", "-q", SITE])
