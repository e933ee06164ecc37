"""Memory that was given back is there for the next chunk."""

from __future__ import annotations

import subprocess
import sys

CHUNKS_HELD = 6
ROUNDS = 100
PAGES_IN_A_CHUNK = 256

PROGRAM = f"""
import resource, sys
from streamhop.heap import reuse_memory

if sys.argv[1] == "reuse":
    reuse_memory()

def round_of_chunks():
    held = [b"x" * (1 << 20) for _ in range({CHUNKS_HELD})]

round_of_chunks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({ROUNDS}):
    round_of_chunks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of a process that takes and gives back the same memory again and again."""
    return int(subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True).stdout)


def test_chunks_come_and_go_without_page_faults() -> None:
    touched = ROUNDS * CHUNKS_HELD * PAGES_IN_A_CHUNK
    assert faults("as it is") > touched / 2
    assert faults("reuse") < touched / 100
