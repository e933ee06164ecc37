"""Two edge hosts joined by a slow link, a redis under writes, one move: watch it, then see that nothing was lost.

Writes ``build/demo.json``; exits with 0 only if the container moved and every acknowledged write is there.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hoplab import Lab, LabError
from hoplab.edge import EdgeDaemon, ProbeClient, dataset, finish_migrate, pair

RESULT = Path(__file__).resolve().parents[2] / "build" / "demo.json"

KEYS = 1_000_000
RATE = "20mbit"
RTT = "50ms"
PORT = 6379

console = Console(stderr=True)


def say(text: str) -> None:
    """Tell the viewer what happens now."""
    console.print(text, style="bold", highlight=False)


def demo() -> dict[str, Any]:
    """Build the lab, move the container, compare; returns what ``demo.json`` holds."""
    with ExitStack() as stack:
        say(f"two edge hosts and a client; the edges are joined by {RATE} and {RTT}")
        lab = stack.enter_context(
            Lab.up(f"demo-{os.getpid()}", hosts=["edge-a", "edge-b"], clients=["client"], rate=RATE, rtt=RTT)
        )
        edge_a, edge_b, client = lab.host("edge-a"), lab.host("edge-b"), lab.host("client")
        measured = lab.link("edge-a", "edge-b").measured
        say(f"the link, as measured: {measured.bit_per_s / 1e6:.1f} Mbit/s, {measured.rtt_s * 1000:.1f} ms")
        source = stack.enter_context(EdgeDaemon(edge_a, ["edge-b"]))
        target = stack.enter_context(EdgeDaemon(edge_b, ["edge-a"]))
        pair(source, target)

        say(f"a redis with {KEYS:,} keys on edge-a; edge-b has its base layer, not its application layer")
        edge_b.load("base")
        edge_a.service("redis")
        dataset(client, "fill", f"edge-a:{PORT}", KEYS)
        before = dataset(client, "digest", f"edge-a:{PORT}", KEYS)

        say("a client writes, and goes on writing; edge-a: streamhop migrate redis edge-b")
        with ProbeClient(client, "redis", [f"edge-a:{PORT}", f"edge-b:{PORT}"]) as probe:
            moved = finish_migrate(source.begin_migrate("redis", "edge-b"))
            seen = probe.stop()
        if moved.exit_code != 0:
            raise LabError(f"the move failed with exit code {moved.exit_code}; {source.log()[-3000:]}")
        after = dataset(client, "digest", f"edge-b:{PORT}", KEYS)
        still_there = edge_a.docker("ps", "--all", "--quiet").split()

    report = moved.report
    sent = report["bytes"]
    return {
        "outcome": report["outcome"],
        "keys_before": before["keys"],
        "keys_after": after["keys"],
        "digest_equal": before["digest"] == after["digest"],
        "acknowledged_writes": seen["acknowledged"],
        "acknowledged_writes_lost": seen["lost"],
        "client_longest_gap_s": seen["longest_gap_s"],
        "client_reconnects": seen["reconnects"],
        "downtime_s": report["downtime_s"],
        "predicted_downtime_s": report["predicted_downtime_s"],
        "total_s": report["total_s"],
        "rounds": len(report["rounds"]),
        "memory_wire_bytes": sent["memory_precopy"] + sent["memory_final"],
        "memory_final_wire_bytes": sent["memory_final"],
        "layers_sent": report["layers_sent"],
        "layers_reused": report["layers_reused"],
        "left_on_source": len(still_there),
        "link_bit_per_s": round(measured.bit_per_s),
        "link_rtt_s": round(measured.rtt_s, 4),
        "report": report,
    }


def table(result: dict[str, Any]) -> Table:
    """The result for a person."""
    shown = Table(title="what the client saw, and what it cost")
    shown.add_column("what")
    shown.add_column("figure", justify="right")
    final, memory = result["memory_final_wire_bytes"], result["memory_wire_bytes"]
    rows = [
        ("longest gap a client saw", f"{result['client_longest_gap_s']:.3f} s"),
        (
            "downtime, by the daemons' clocks",
            f"{result['downtime_s']:.3f} s (predicted {result['predicted_downtime_s']:.3f} s)",
        ),
        ("whole move", f"{result['total_s']:.1f} s"),
        ("acknowledged writes / lost", f"{result['acknowledged_writes']:,} / {result['acknowledged_writes_lost']}"),
        ("keys before / after", f"{result['keys_before']:,} / {result['keys_after']:,}"),
        ("digest over all keys", "equal" if result["digest_equal"] else "DIFFERENT"),
        ("memory on the wire", f"{memory / 1e6:.1f} MB in {result['rounds']} rounds and the final"),
        ("of it while frozen", f"{final / 1e6:.2f} MB ({final / memory:.1%})"),
        ("image layers sent / already there", f"{result['layers_sent']} / {result['layers_reused']}"),
    ]
    for row in rows:
        shown.add_row(*row)
    return shown


def main() -> int:
    """Run the demo; the exit code."""
    try:
        result = demo()
    except LabError as error:
        console.print(f"demo: {error}", style="red", markup=False, highlight=False)
        return 1
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    Console().print(table(result))
    say(f"figures in {RESULT.relative_to(Path.cwd()) if RESULT.is_relative_to(Path.cwd()) else RESULT}")
    good = result["outcome"] == "moved" and result["digest_equal"] and result["acknowledged_writes_lost"] == 0
    return 0 if good and result["keys_before"] == result["keys_after"] == KEYS else 1


if __name__ == "__main__":
    sys.exit(main())
