"""The client's records and pace; against a small server of its own where it has to speak."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hopbench.inside.client import TOKEN_DIGITS, TOKEN_OFFSET, WRITES_PER_REQUEST, record, token, touched


def test_records_are_a_kilobyte_and_each_is_another() -> None:
    assert 800 < len(record(1)) < 1024
    assert record(1) == record(1) != record(2)
    assert len(token(12)) == TOKEN_DIGITS
    assert len(record(1)) > TOKEN_OFFSET + TOKEN_DIGITS


@pytest.mark.parametrize("records", [160, 272_720])
def test_writes_visit_every_record_before_any_a_second_time(records: int) -> None:
    requests = records // WRITES_PER_REQUEST
    visited = [number for request in range(requests) for number in touched(request, records)]
    assert len(set(visited)) == len(visited) == records


class Paths(BaseHTTPRequestHandler):
    """Answers anything, and remembers what."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Paths.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Paths) as serving:
        serving.daemon_threads = True
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def watch(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hopbench.inside.client", "watch", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_it_asks_for_the_path_at_its_pace_and_tells_the_median(server: ThreadingHTTPServer) -> None:
    with watch("http", f"127.0.0.1:{server.server_port}", "--path", "/alive", "--pause", "0.05") as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        while len(Paths.seen) < 10:
            client.poll()
        out, _ = client.communicate(b"stop\n", timeout=20)
    summary = json.loads(out)
    assert set(Paths.seen) == {"/alive"}
    assert summary["acknowledged"] == len(Paths.seen)
    assert 0.05 <= summary["request_s"] < 0.5
    assert summary["longest_gap_s"] >= summary["request_s"]


def test_a_stop_during_an_outage_waits_for_the_answer_that_ends_it() -> None:
    """Else the gap would be cut off and look short."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        with watch("http", place, "--pause", "0") as client:
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(answer)
            assert client.stdout is not None
            assert client.stdout.readline() == b"ready\n"
            connection.recv(1000)
            assert client.stdin is not None
            client.stdin.write(b"stop\n")
            client.stdin.flush()
            connection.close()  # not answered: an outage
            with pytest.raises(subprocess.TimeoutExpired):
                client.wait(0.5)
            again, _ = listener.accept()
            with again:
                again.recv(1000)
                again.sendall(answer)
                out, _ = client.communicate(timeout=20)
    summary = json.loads(out)
    assert summary["acknowledged"] == 2
    assert summary["longest_gap_s"] >= 0.5
