"""Many clients that connect and never get anywhere: a process of its own, whose descriptors are not the test's.

``half_open_flood.py PORT CLIENTS RETRY_S ORIGIN...``: each client keeps one connection from one of the loopback
addresses ORIGIN, and makes another RETRY_S after it was dropped. By turns they are silent, let the bytes of a real
ClientHello trickle, let garbage trickle, and finish a handshake as a guest to fall silent then. Prints a line with the
number of connections begun, and of those dropped, whenever either has grown; ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
import sys

TRICKLE_S = 0.2
REPORT_S = 0.1


def guest_context() -> ssl.SSLContext:
    """TLS without a certificate of one's own, as a guest comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["streamhop-pair/1"])
    return context


def client_hello() -> bytes:
    """The first bytes of a handshake."""
    outgoing = ssl.MemoryBIO()
    tls = guest_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="streamhop")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake cannot be over without an answer")


class Flood:
    """The clients, and what became of them."""

    def __init__(self, port: int, retry_s: float, origins: list[str]) -> None:
        self.made = 0
        self.dropped = 0
        self._port = port
        self._origins = origins
        self._retry_s = retry_s
        self._hello = client_hello()
        self._guest = guest_context()

    async def client(self, number: int) -> None:
        """One client, for ever."""
        origin = self._origins[number % len(self._origins)]
        kind = number // len(self._origins) % 4
        while True:
            self.made += 1
            with contextlib.suppress(OSError):
                await self._attempt(origin, kind)
            self.dropped += 1
            await asyncio.sleep(self._retry_s)

    async def _attempt(self, origin: str, kind: int) -> None:
        tls = self._guest if kind == 3 else None
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(origin, 0), ssl=tls)
        try:
            ended = asyncio.ensure_future(reader.read())
            trickle = {1: self._hello, 2: b"x" * 4096}.get(kind, b"")
            for value in trickle:
                if ended.done():
                    break
                writer.write(bytes((value,)))
                await asyncio.wait({ended}, timeout=TRICKLE_S)
            await ended
        finally:
            writer.transport.abort()

    async def report(self) -> None:
        """Tell whoever reads standard output."""
        told = (0, 0)
        while True:
            if (self.made, self.dropped) != told:
                told = self.made, self.dropped
                sys.stdout.write(f"{self.made} {self.dropped}\n")
                sys.stdout.flush()
            await asyncio.sleep(REPORT_S)


async def main(port: int, clients: int, retry_s: float, origins: list[str]) -> None:
    """Run until standard input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * clients + 64
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"{clients} clients need {wanted} descriptors; the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    flood = Flood(port, retry_s, origins)
    tasks = [asyncio.ensure_future(flood.report()), *(asyncio.ensure_future(flood.client(n)) for n in range(clients))]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
