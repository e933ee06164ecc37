"""The container that is moved: tells a sink, many times a second, how far it has counted. Standard library only.

Argument: the sink's address. It does not know, and does not ask, on which host it is.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time

PORT = 9977
PAUSE_S = 0.02
BALLAST_BYTES = 6 << 20


def main() -> None:
    """Count for ever."""
    life = os.urandom(4).hex()
    ballast = bytearray(os.urandom(BALLAST_BYTES))  # something to move that does not compress
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    n = 0
    while True:
        n += 1
        ballast[n * 4096 % BALLAST_BYTES] ^= 1
        with contextlib.suppress(OSError):  # a network that is not there yet, or not any more
            channel.sendto(f"{life} {n}".encode(), (sys.argv[1], PORT))
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
