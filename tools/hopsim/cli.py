"""Command line: ``python -m hopsim.cli --seed 1 --number 10000``; closes with ``N passed, N failed``."""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from .simulation import Outcome, simulate

BATCH = 50


def run_batch(seeds: Iterable[int], tracing: bool = False) -> list[Outcome]:
    """Run ``seeds`` one after the other in this process."""
    # What a run leaves half done is thrown away with it; its generators complain to nobody.
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    logging.disable(logging.CRITICAL)
    gc.disable()
    gc.collect()
    gc.freeze()
    try:
        with tempfile.TemporaryDirectory(prefix="hopsim-", dir=_memory_dir()) as directory:
            outcomes = []
            for seed in seeds:
                outcomes.append(simulate(seed, Path(directory), tracing=tracing))
                if len(outcomes) % 10 == 0:
                    gc.collect()
            return outcomes
    finally:
        gc.collect()
        gc.unfreeze()
        gc.enable()
        logging.disable(logging.NOTSET)
        sys.unraisablehook = hook


def _memory_dir() -> str | None:
    memory = Path("/dev/shm")  # noqa: S108 - where files cost no disk; any other place would do
    return str(memory) if os.access(memory, os.W_OK) else None


def run_all(first: int, number: int, processes: int, *, tracing: bool) -> Iterator[Outcome]:
    """Run ``number`` seeds from ``first`` on, in several processes; in order."""
    batches = [range(start, min(start + BATCH, first + number)) for start in range(first, first + number, BATCH)]
    if processes == 1 or tracing:
        for batch in batches:
            yield from run_batch(batch, tracing)
        return
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=40) as pool:
        for outcomes in pool.imap(run_batch, batches):
            yield from outcomes


def coverage(struck: Counter[tuple[str, str, str]], side: int) -> str:
    """How often each kind of fault struck in each state of one side; 1 is the source, 2 the target."""
    states = {
        1: ("-", "precopy", "freezing", "released", "aborted", "done"),
        2: ("-", "receiving", "prepared", "owned", "open", "refused", "aborted", "done"),
    }[side]
    table: Counter[tuple[str, str]] = Counter()
    for key, count in struck.items():
        table[key[0], key[side]] += count
    kinds = sorted({kind for kind, _ in table})
    lines = [f"{('source' if side == 1 else 'target') + ' is':<26}" + "".join(f"{state:>10}" for state in states)]
    lines += [f"{kind:<26}" + "".join(f"{table[kind, state] or '.':>10}" for state in states) for kind in kinds]
    return "\n".join(lines)


def main() -> int:
    """Exit code 1 if a seed failed."""
    parser = argparse.ArgumentParser(description="Simulate moves of a container under faults.")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--number", type=int, default=1000, help="how many seeds")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    options = parser.parse_args()
    began = time.monotonic()
    struck: Counter[tuple[str, str, str]] = Counter()
    results: Counter[str] = Counter()
    failed = []
    for outcome in run_all(options.seed, options.number, options.processes, tracing=options.trace):
        struck += outcome.struck
        results += outcome.results
        if options.trace:
            print("\n".join(outcome.lines))
        if outcome.violations:
            failed.append(outcome.seed)
            if len(failed) <= 20:
                print(f"seed {outcome.seed}: {outcome.violations[0]}")
    seconds = time.monotonic() - began
    if options.number > 1:
        print(f"\n{coverage(struck, 1)}\n\n{coverage(struck, 2)}\n")
        print("told: " + ", ".join(f"{name} {count}" for name, count in results.most_common()))
    print(f"{options.number / seconds:.0f} seeds/s, {seconds:.0f} s")
    if failed:
        print(f"again, with what happened: make sim SEED={failed[0]} N=1 TRACE=1")
    print(f"{options.number - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
