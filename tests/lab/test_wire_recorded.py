"""A move between real hosts, recorded by a tap between them, by the traces of both daemons, and captured."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.lab_captures import captured
from support.lab_fixtures import LabFactory

from hoplab import Host, Lab
from hoplab.deploy import SITE
from hoplab.edge import CONFIG, PORT, EdgeDaemon, ProbeClient, dataset, pair
from hoplab.processes import wait_for
from hoplab.python_site import checkout
from hopwire.cli import main as hopwire
from hopwire.events import FrameSeen, NoteSeen, Seen
from hopwire.flow.reader import FlowReader
from hopwire.flow.recording import seen_in
from hopwire.summary.analysis import analyse
from hopwire.summary.page import html_page
from hopwire.summary.sessions import moments_of, rounds_of
from hopwire.trace import seen_in_trace

pytestmark = [pytest.mark.lab, pytest.mark.root]

KEYS = 100_000
REDIS = 6379
TAP_PORT = 4712
IDENTITY, THERE = "/var/lib/streamhop/identity", "/root/identity-of-edge-b"
TRACE, FLOW, KEYLOG = "/root/trace.jsonl", "/root/move.flow", "/root/keys"
HOPWIRE = f"import sys; sys.path[:0] = ['{SITE}', '/opt/hoplab/site']; from hopwire.cli import main; main()"


@pytest.fixture
def lab(make_lab: LabFactory) -> Lab:
    """Two hosts joined as in the demo."""
    return make_lab(f"wire-{os.getpid()}", hosts=["edge-a", "edge-b"], clients=["client"], rate="20mbit", rtt="50ms")


@pytest.fixture
def edges(lab: Lab) -> Iterator[tuple[EdgeDaemon, EdgeDaemon]]:
    """Both traced, and with their sessions' secrets; edge-a takes the tap for edge-b."""
    traced = {"trace": f'"{TRACE}"', "lab_keylog": f'"{KEYLOG}"'}
    a, b = (EdgeDaemon(lab.host(name), [peer], traced) for name, peer in (("edge-a", "edge-b"), ("edge-b", "edge-a")))
    config = a.host.read(CONFIG).decode()
    a.host.write(CONFIG, config.replace(f"edge-b:{PORT}", f"127.0.0.1:{TAP_PORT}"))
    with a, b:
        pair(a, b)
        yield a, b


def install_hopwire(a: Host, b: Host) -> None:
    """Put hopwire on edge-a, and what makes it edge-b to edge-a."""
    a.put(checkout() / "tools" / "hopwire", f"{SITE}/hopwire")
    a.exec(["mkdir", "-m", "700", THERE])
    for name in ("certificate.pem", "key.pem"):
        a.write(f"{THERE}/{name}", b.read(f"{IDENTITY}/{name}"), mode=0o600)


def flow_of(data: bytes) -> list[Seen]:
    return list(seen_in(FlowReader(io.BytesIO(data))))


def trace_of(data: bytes) -> list[Seen]:
    return list(seen_in_trace(io.BytesIO(data)))


def sequences(events: list[Seen]) -> Counter[tuple[object, ...]]:
    """Of each direction of each connection, what passed in which order."""
    found: dict[tuple[int, bool], list[object]] = {}
    for event in events:
        if isinstance(event, FrameSeen):
            found.setdefault((event.connection, event.from_dialer), []).append(event.prefix)
    return Counter((from_dialer, *frames) for (_, from_dialer), frames in found.items())


def read_pcap(directory: Path) -> tuple[bytes, str]:
    """The flow file that ``hopwire read-pcap`` makes of the capture, and what it says about that."""
    flow = directory / "captured.flow"
    flow.unlink(missing_ok=True)
    keys = ["--keylog", str(directory / "keys")]
    done = CliRunner().invoke(hopwire, ["read-pcap", str(directory / "move.pcapng"), *keys, "-q", "-w", str(flow)])
    return flow.read_bytes() if flow.exists() else b"", done.output


def types_of(directory: Path) -> set[str]:
    """What has been captured so far; the last packet may not be written whole."""
    flow, _ = read_pcap(directory)
    return {event.type_name for event in (flow_of(flow) if flow else ()) if isinstance(event, FrameSeen)}


def test_a_move_recorded_three_ways_is_the_same_sequence_of_frames(
    lab: Lab, edges: tuple[EdgeDaemon, EdgeDaemon], tmp_path: Path
) -> None:
    a, b = edges
    client = lab.host("client")
    install_hopwire(a.host, b.host)
    b.host.load("base")
    a.host.service("redis")
    dataset(client, "fill", f"edge-a:{REDIS}", KEYS)
    listen, upstream = f"127.0.0.1:{TAP_PORT}", f"edge-b:{PORT}"
    keys = ["--dialer-identity", IDENTITY, "--acceptor-identity", THERE]
    tap = a.host.popen(["python3", "-I", "-c", HOPWIRE, "tap", listen, upstream, "-q", "--payload", "-w", FLOW, *keys])
    try:
        wait_for(lambda: a.host.exec(["ss", "-ltn"]).stdout.find(f":{TAP_PORT}") >= 0, "the tap listens", 20.0)
        with (
            captured(a.host, b.host, tmp_path / "move.pcapng"),
            ProbeClient(client, "redis", [f"edge-a:{REDIS}", f"edge-b:{REDIS}"]) as probe,
        ):
            moved = a.migrate("redis", "edge-b")
            seen = probe.stop()
            (tmp_path / "keys").write_bytes(b.host.read(KEYLOG))
            wait_for(lambda: "FINISH" in types_of(tmp_path), "all is captured", 30.0)
    finally:
        tap.terminate()
        tap.wait()
    assert moved.exit_code == 0, moved.remarks
    assert seen["lost"] == 0
    for daemon in (a, b):
        daemon.stop()
    flow = a.host.read(FLOW)
    traces = [host.read(TRACE) for host in (a.host, b.host)]
    keep(flow, traces)
    recorded = flow_of(flow)
    expected = sequences(recorded)
    assert expected.total() == 6
    assert sum(len(each) - 1 for each in expected) > 100
    for data in traces:
        assert sequences(trace_of(data)) == expected
    # Between the tap and edge-b, opened with edge-b's secrets.
    from_capture, remarks = read_pcap(tmp_path)
    assert (sequences(flow_of(from_capture)), remarks) == (expected, "")

    summary = analyse(recorded)
    session = summary.sessions[1]
    assert session.faults == []
    rounds = [each for each in rounds_of(session) if each.name != "final"]
    assert len(rounds) >= len(moved.report["rounds"])
    frozen_s = moments_of(session).frozen_s
    assert frozen_s is not None
    assert 0 < frozen_s < moved.report["downtime_s"] + 0.5
    notes = {event.name for event in trace_of(traces[0]) if isinstance(event, NoteSeen)}
    assert notes >= {"codec:chosen", "policy:verdict", "move:phase", "move:state"}
    told = analyse(trace_of(traces[0]))
    assert moments_of(told.sessions[1], told.frozen).frozen_s == pytest.approx(
        moved.report["downtime_s"], rel=0.25, abs=0.1
    )
    page = tmp_path / "move.html"
    page.write_text(html_page(summary, FLOW))
    assert "frozen for" in page.read_text()

    with b:
        assert replayed(a.host, upstream)["verdict"].startswith('it answered REFUSE "')  # the name is taken by then
        flipped = replayed(a.host, upstream, "--fault", "flip", "--bit", "0", "--at", "type == OFFER")
        assert flipped["verdict"].startswith('it answered ERROR "limit"')
        assert b.host.docker("ps", "--quiet").split() != []  # and it still runs there


def replayed(host: Host, target: str, *fault: str) -> dict[str, Any]:
    """What edge-b does when the recorded session is played to it, by who has edge-a's key."""
    keys = ["--identity", IDENTITY, "--peer-certificate", f"{THERE}/certificate.pem"]
    options = ["--format", "json", "--patience", "5", "--linger", "1", *keys, *fault]
    done = host.exec(["python3", "-I", "-c", HOPWIRE, "replay", FLOW, target, *options])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def keep(flow: bytes, traces: list[bytes]) -> None:
    """Leave the recordings for whoever wants to look at them."""
    where = os.environ.get("WIRE_RECORDINGS")
    if where:
        for name, data in (("move.flow", flow), ("source.jsonl", traces[0]), ("target.jsonl", traces[1])):
            (Path(where) / name).write_bytes(data)
