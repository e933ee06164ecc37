"""Links do what was asked for, or are refused; they can be changed and cut."""

from __future__ import annotations

import subprocess

import pytest

from hoplab import Lab, Prepared, residue
from hoplab.errors import LinkOffError
from hoplab.links import Wiring

pytestmark = [pytest.mark.lab, pytest.mark.root]

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()"


def test_every_host_reaches_every_other_by_name(classic_lab: Lab) -> None:
    for host in classic_lab.hosts:
        for other in classic_lab.hosts:
            if other.name != host.name:
                found = host.exec(["getent", "hosts", other.name]).stdout.split()
                assert found == [other.address, other.name]
                assert host.exec(["python3", "-c", CONNECT, other.name, "9"], check=False).stderr.count("refused") == 1


@pytest.mark.parametrize(("rate", "rtt"), [("20mbit", "50ms"), ("50mbit", None), (None, "30ms")])
def test_a_link_is_what_was_asked_for(two_clients: Lab, rate: str | None, rtt: str | None) -> None:
    link = two_clients.link("left", "right")
    measured = link.shape(rate=rate, rtt=rtt)
    if rate:
        assert measured.bit_per_s == pytest.approx(float(rate.removesuffix("mbit")) * 1e6, rel=0.1)
    assert measured.rtt_s == pytest.approx(float((rtt or "0ms").removesuffix("ms")) / 1e3, rel=0.2, abs=0.01)
    assert two_clients.link("right", "left").measured == measured


def test_a_link_that_does_not_become_what_was_asked_for_is_refused(
    two_clients: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wiring, "_apply", lambda *_arguments, **_options: None)
    with pytest.raises(LinkOffError, match="not 20"):
        two_clients.link("left", "right").shape(rate="20mbit")


def test_connections_survive_a_change_of_the_link(two_clients: Lab) -> None:
    left, right = two_clients.host("left"), two_clients.host("right")
    right.write("/opt/echo.py", ECHO)
    server = right.popen(["python3", "/opt/echo.py"], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    client = left.popen(["python3", "-c", TALK], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdin is not None
    assert client.stdout is not None
    link = two_clients.link("left", "right")
    changes = [{}, {"rate": "10mbit"}, {"rtt": "20ms"}, {"rate": None}, {"rtt": None}]
    for change in changes:
        if change:
            link.shape(**change)
        client.stdin.write(b"x\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"x\n", change
    client.stdin.close()
    assert client.wait(10) == 0
    client.stdout.close()
    server.kill()
    server.communicate()


ECHO = """
import socket
with socket.create_server(("", 7)) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    while data := connection.recv(100):
        connection.sendall(data)
"""
TALK = """
import socket, sys
with socket.create_connection(("right", 7), 20) as connection:
    for line in sys.stdin:
        connection.sendall(line.encode())
        print(connection.recv(100).decode(), end="", flush=True)
"""


@pytest.mark.parametrize("rtt", [None, "10ms"])
def test_a_cut_link_is_silent_and_heals(two_clients: Lab, rtt: str | None) -> None:
    link = two_clients.link("left", "right")
    link.shape(rtt=rtt)
    for source, target in (("left", "right"), ("right", "left")):
        host = two_clients.host(source)
        link.down()
        assert "timed out" in host.exec(["python3", "-c", CONNECT, target, "9"], check=False).stderr
        link.up()
        assert "refused" in host.exec(["python3", "-c", CONNECT, target, "9"], check=False).stderr


def test_loss_is_near_what_was_asked_for(two_clients: Lab) -> None:
    two_clients.link("left", "right").shape(loss="20%")
    left, right = two_clients.host("left"), two_clients.host("right")
    counter = right.popen(["python3", "-c", COUNT], stdout=subprocess.PIPE)
    assert counter.stdout is not None
    assert counter.stdout.readline() == b"ready\n"
    left.exec(["python3", "-c", SPRAY])
    arrived = int(counter.communicate(timeout=30)[0])
    # 2,000 trials at 0.8: the standard deviation is 18, so this is five of them.
    assert 1510 <= arrived <= 1690


COUNT = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("", 9000))
    s.settimeout(20)
    print("ready", flush=True)
    count = 0
    try:
        while True:
            if s.recv(9) == b"end":
                break
            count += 1
    except TimeoutError:
        pass
    print(count)
"""
SPRAY = """
import socket, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    for number in range(2000):
        s.sendto(b"x", ("right", 9000))
        if number % 50 == 0:
            time.sleep(0.002)
    for _ in range(50):
        time.sleep(0.01)
        s.sendto(b"end", ("right", 9000))
"""


def test_a_client_host_is_not_shaped(lab_prepared: Prepared) -> None:
    with Lab.up("hl-mixed", hosts=["edge-a"], clients=["client"], rate="5mbit") as lab:
        assert lab.link("edge-a", "client").measured.bit_per_s > 50e6
    assert residue("hl-mixed") == []
