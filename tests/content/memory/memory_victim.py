"""A process with memory of every kind. Says where it is, then obeys one command a line on stdin.

``poke NAME INDEX SEED`` writes page(SEED) there; ``zero NAME INDEX``; ``unmap NAME``;
``verify`` answers whether all pages hold what was written. Every command is answered by a line.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import sys

PAGE = 4096
PAGES = 300
PRIVATE, SHARED, ANONYMOUS = mmap.MAP_PRIVATE, mmap.MAP_SHARED, mmap.MAP_ANONYMOUS

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def mapped(flags: int, descriptor: int = -1, offset: int = 0) -> int:
    """Map PAGES pages; returns the address."""
    address = libc.mmap(None, PAGES * PAGE, 3, flags, descriptor, offset)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "mmap")
    return int(address)


def content(seed: int) -> bytes:
    return seed.to_bytes(8, "big") * (PAGE // 8)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    memfd = os.memfd_create("victim")
    os.ftruncate(memfd, 2 * PAGES * PAGE)
    # A file without a name: its pages are the file's until they are written to
    path = sys.argv[1]
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"f" * PAGES * PAGE)
    file_fd = os.open(path, os.O_RDWR)
    places = {
        "anonymous": mapped(PRIVATE | ANONYMOUS),
        "shared": mapped(SHARED | ANONYMOUS),
        "memfd": mapped(SHARED, memfd, PAGES * PAGE),
        "file": mapped(PRIVATE, file_fd),
        "forbidden": mapped(PRIVATE | ANONYMOUS),
    }
    held: dict[str, dict[int, bytes]] = {name: {} for name in places}

    def put(name: str, index: int, data: bytes) -> None:
        held[name][index] = data
        ctypes.memmove(places[name] + index * PAGE, data, PAGE)

    for name in places:
        for index in (*range(200), 250, PAGES - 1):
            if name == "file" and index % 2:
                _ = ctypes.string_at(places[name] + index * PAGE, 1)
            else:
                put(name, index, bytes(PAGE) if index in (3, 4) else content(index + 1))
    libc.mprotect(places["forbidden"], PAGES * PAGE, 0)
    say(json.dumps({"places": places, "memfd_inode": os.fstat(memfd).st_ino}))
    for line in sys.stdin:
        command, *arguments = line.split()
        answer = "ok"
        if command == "poke":
            put(arguments[0], int(arguments[1]), content(int(arguments[2])))
        elif command == "zero":
            put(arguments[0], int(arguments[1]), bytes(PAGE))
        elif command == "unmap":
            libc.munmap(places.pop(arguments[0]), PAGES * PAGE)
        elif command == "verify":
            libc.mprotect(places["forbidden"], PAGES * PAGE, 1)
            wrong = [
                (name, index)
                for name, address in places.items()
                for index, expected in held[name].items()
                if ctypes.string_at(address + index * PAGE, PAGE) != expected
            ]
            libc.mprotect(places["forbidden"], PAGES * PAGE, 0)
            answer = json.dumps(wrong)
        say(answer)


main()
