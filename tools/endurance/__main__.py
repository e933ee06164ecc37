"""``MOVES=500 python -m endurance``: writes ``build/endurance.json``.

Exits with 0 only if every move succeeded, the counter lost nothing and nothing grew.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from hoplab import Lab
from hoplab.edge import EdgeDaemon, pair

from .back_and_forth import endure

RESULT = Path(__file__).resolve().parents[2] / "build" / "endurance.json"


def say(text: str) -> None:
    """Tell the viewer how far it is."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a program's output


def main() -> int:
    """Entry point."""
    moves = int(os.environ.get("MOVES", "500"))
    with ExitStack() as stack:
        lab = stack.enter_context(Lab.up(f"endurance-{os.getpid()}", hosts=["edge-a", "edge-b"], clients=["client"]))
        home = stack.enter_context(EdgeDaemon(lab.host("edge-a"), ["edge-b"]))
        away = stack.enter_context(EdgeDaemon(lab.host("edge-b"), ["edge-a"]))
        pair(home, away)
        result = endure(home, away, lab.host("client"), moves, say)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result.as_json(), indent=1) + "\n")
    for line in result.grown or ["nothing grew"]:
        say(line)
    say(f"{RESULT}: {'holds' if result.holds else 'does not hold'}")
    return 0 if result.holds else 1


if __name__ == "__main__":
    sys.exit(main())
