"""``python -m fuzz.run --minutes 10``: every target for its share of the time, one line each.

Inputs that widen what is covered, and those that are findings, stay in ``build/fuzz/<target>/``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fuzz.target import NAMES, load

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "fuzz"

RSS_MB_MAX = 768
"""Resident memory of a target with its decoder, the interpreter's and the fuzzer's own included."""

INPUT_S_MAX = 10
"""An input that takes longer counts as a hang."""

INPUT_BYTES_MAX = 16384
START_S_MAX = 180
LOG_LINES_SHOWN = 40

_RUNS = re.compile(r"^(?:Done |stat::number_of_executed_units:\s*|#)(\d+)", re.MULTILINE)
"""Executions, in what libFuzzer says at its end and on its way."""


@dataclass(frozen=True)
class Outcome:
    """How one target's run ended."""

    name: str
    executions: int
    findings: tuple[Path, ...]
    failed: bool
    log: str


def seeds_of(name: str, directory: Path) -> Path:
    """Write a target's valid inputs."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(load(name).seeds()):
        (directory / f"valid-{number}").write_bytes(seed)
    return directory


def run_target(name: str, seconds: int, build: Path = BUILD) -> Outcome:
    """Fuzz one target.

    :param seconds: how long; its start is not counted.
    """
    home = build / name
    for part in ("corpus", "findings"):
        (home / part).mkdir(parents=True, exist_ok=True)
    known = HERE / "corpus" / name
    command = [
        *(sys.executable, "-m", "fuzz.one", name),
        *(str(home / "corpus"), str(seeds_of(name, home / "seeds"))),
        *((str(known),) if known.is_dir() else ()),
        f"-max_total_time={seconds}",
        f"-artifact_prefix={home / 'findings'}/",
        f"-rss_limit_mb={RSS_MB_MAX}",
        f"-timeout={INPUT_S_MAX}",
        f"-max_len={INPUT_BYTES_MAX}",
        "-print_final_stats=1",
    ]
    before = set((home / "findings").iterdir())
    log = home / "log"
    # The fuzzer ends its process without cleaning up, so what a target leaves is in a directory of ours.
    with log.open("wb") as file, tempfile.TemporaryDirectory(prefix="streamhop-fuzz-", dir=_memory_disk()) as scratch:
        environment = {**os.environ, "TMPDIR": scratch, "PYTHONPATH": os.pathsep.join((str(HERE.parent), *sys.path))}
        try:
            code = subprocess.run(
                command, stdout=file, stderr=file, env=environment, timeout=seconds + START_S_MAX, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
            file.write(b"\nended from outside: it did not end by itself in time\n")
    text = log.read_text(encoding="utf-8", errors="replace")
    runs = [int(number) for number in _RUNS.findall(text)]
    findings = tuple(sorted(set((home / "findings").iterdir()) - before))
    return Outcome(name, max(runs, default=0), findings, code != 0 or bool(findings), text)


def _memory_disk() -> str | None:
    """A file system in memory, if there is one: inputs come by the thousand."""
    place = "/dev/shm"
    return place if os.access(place, os.W_OK) else None


def run_all(names: tuple[str, ...], seconds: int, jobs: int, build: Path = BUILD) -> Iterator[Outcome]:
    """Fuzz targets, some at a time."""
    with ThreadPoolExecutor(jobs) as threads:
        yield from threads.map(lambda name: run_target(name, seconds, build), names)


def _telling(log: str) -> list[str]:
    """The end of a log without what libFuzzer says about its progress."""
    return [line for line in log.splitlines() if not line.startswith(("#", "INFO:"))][-LOG_LINES_SHOWN:]


def main() -> int:
    """Returns the exit code: 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("targets", nargs="*", choices=[[], *NAMES], default=[])
    arguments = parser.parse_args()
    names = tuple(arguments.targets) or NAMES
    seconds = max(1, round(arguments.minutes * 60 * arguments.jobs / len(names)))
    print(f"{len(names)} targets, {seconds} s each, {arguments.jobs} at a time")  # noqa: T201
    failed = 0
    for outcome in run_all(names, seconds, arguments.jobs):
        failed += outcome.failed
        print(f"{outcome.name:20} {outcome.executions:>10} executions {len(outcome.findings):>3} crashes", flush=True)  # noqa: T201
        for path in outcome.findings:
            print(f"  {path}")  # noqa: T201
        if outcome.failed:
            print("  " + "\n  ".join(_telling(outcome.log)))  # noqa: T201
    print(f"{len(names) - failed} passed, {failed} failed")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
