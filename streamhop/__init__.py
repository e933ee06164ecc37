"""streamhop hands a running Docker container over to another host, peer to peer."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("streamhop")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.1.0"
