"""The estimates of a link, on virtual time; and the socket options, on real sockets."""

from __future__ import annotations

import itertools
import os
import socket

import pytest

from streamhop.net.link import (
    PACE_MAX,
    QUEUE_S,
    CodecPace,
    GoodputEstimate,
    RttWindow,
    fragment_bytes,
    grown_fragment_bytes,
    unsent_bytes,
)
from streamhop.net.packing import UNSEEN_CHUNKS_MAX, ContentHabit, pack_chunk, stable
from streamhop.net.sockets import limit_unsent, read_tcp_info, tune, use_congestion_control
from streamhop_protocol.codecs import Codec


def test_the_round_trip_is_the_least_of_the_last_minute() -> None:
    rtt = RttWindow()
    assert rtt.minimum_s(0) is None
    for now, sample in ((0, 0.050), (1, 0.200), (2, 0.060), (30, 0.300)):
        rtt.add(now, sample)
    assert rtt.minimum_s(30) == 0.050
    assert rtt.minimum_s(61) == 0.060
    assert rtt.minimum_s(200) == 0.300  # old news is better than none


def feed(estimate: GoodputEstimate, rates: list[tuple[float, bool]], *, now: float = 0.0, acked: int = 0) -> None:
    estimate.update(now, acked, limited=False)
    for rate, limited in rates:
        now += 0.1
        acked += round(rate * 0.1)
        estimate.update(now, acked, limited=limited)


def test_goodput_is_known_only_once_the_link_was_the_limit() -> None:
    estimate = GoodputEstimate()
    feed(estimate, [(1e6, False)] * 20)
    assert estimate.bytes_per_s is None
    assert estimate.at_least_bytes_per_s == pytest.approx(1e6, rel=0.01)


def test_the_start_and_idle_times_do_not_count() -> None:
    estimate = GoodputEstimate()
    feed(estimate, [(0.2e6, True), (2e6, True), (2e6, True), (2e6, True), (0.1e6, False), (0, False), (0.3e6, True)])
    assert estimate.bytes_per_s == pytest.approx(2e6, rel=0.01)


def test_one_stall_is_not_a_slower_link_but_a_slower_link_is() -> None:
    estimate = GoodputEstimate()
    feed(estimate, [(2e6, True)] * 10 + [(0.1e6, True)])
    assert estimate.bytes_per_s == pytest.approx(2e6, rel=0.01)
    estimate = GoodputEstimate()
    feed(estimate, [(2e6, True)] * 10 + [(1e6, True)] * 10)
    assert estimate.bytes_per_s == pytest.approx(1e6, rel=0.01)


def test_a_lighter_codec_is_chosen_while_the_link_waits_for_the_codec() -> None:
    pace = CodecPace()
    assert pace.bytes_per_s(None) is None
    pace.update(link_limited=True, packing_share=0.9)
    assert pace.bytes_per_s(1e6) == 1e6
    for _ in range(3):
        pace.update(link_limited=False, packing_share=0.9)
    assert pace.bytes_per_s(1e6) == 8e6
    pace.update(link_limited=False, packing_share=0.3)
    assert pace.bytes_per_s(1e6) == 8e6
    pace.update(link_limited=False, packing_share=0.05)  # the application was the limit
    assert pace.bytes_per_s(1e6) == 4e6
    for _ in range(50):
        pace.update(link_limited=False, packing_share=0.9)
    assert pace.bytes_per_s(1e6) == PACE_MAX * 1e6
    for _ in range(50):
        pace.update(link_limited=True, packing_share=0.3)
    assert pace.bytes_per_s(1e6) == 1e6


def test_fragments_suit_the_link() -> None:
    assert fragment_bytes(None) == 64 * 1024
    assert fragment_bytes(2.5e6) == 25_000
    assert fragment_bytes(1e3) == 8 * 1024
    assert fragment_bytes(1e9) == 1024 * 1024
    size = fragment_bytes(None)
    for left_in_s, expected in ((0.001, 128), (0.001, 256), (QUEUE_S, 256), (0.001, 512), (0, 1024), (0, 1024)):
        size = grown_fragment_bytes(size, left_in_s)
        assert size == expected * 1024
    assert unsent_bytes(1e3) == 16 * 1024
    assert unsent_bytes(1e9) == 512 * 1024


def test_socket_options_and_counters() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        peer, _ = server.accept()
        with peer:
            tune(client, 10.0)
            use_congestion_control(client, "no such thing")
            use_congestion_control(client, "reno")
            limit_unsent(client, 4096)
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"reno"
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
            before = read_tcp_info(client)
            client.sendall(bytes(1000))
            assert len(peer.recv(1000, socket.MSG_WAITALL)) == 1000
            peer.sendall(b"x")  # carries the acknowledgement
            client.recv(1)
            after = read_tcp_info(client)
            assert before is not None
            assert after is not None
            assert after.acked_bytes - before.acked_bytes == 1000
            assert after.rtt_s_min is not None
            assert after.rtt_s_min < 1
    assert read_tcp_info(client) is None


def test_the_codec_suits_link_and_content() -> None:
    text, noise = b"some text " * 10_000, os.urandom(100_000)
    habit = ContentHabit()
    assert pack_chunk(text, habit.choose(None))[0] is Codec.ZSTD
    assert pack_chunk(text, habit.choose(2e8))[0] is Codec.LZ4
    assert pack_chunk(text, habit.choose(1e9)) == (Codec.NONE, text)
    assert pack_chunk(noise, habit.choose(None))[0] is Codec.NONE


def test_what_does_not_shrink_is_looked_at_less_and_less_on_a_fast_link() -> None:
    habit = ContentHabit()

    def passed() -> int:
        """Chunks that go unseen before the next that is looked at."""
        return next(number for number in itertools.count() if habit.choose(2e8).codec is not Codec.NONE)

    assert passed() == 0
    unseen = []
    for _ in range(6):
        habit.learn(Codec.NONE)
        unseen.append(passed())
    assert unseen == [1, 3, 7, 15, UNSEEN_CHUNKS_MAX, UNSEEN_CHUNKS_MAX]
    habit.learn(Codec.NONE)
    assert habit.choose(1e7).codec is Codec.ZSTD  # a slow link gains by every chunk that shrinks
    habit.learn(Codec.LZ4)
    assert passed() == 0


def test_only_what_can_change_is_copied() -> None:
    data = b"x" * 100
    assert stable(data) is data
    view = stable(memoryview(data)[10:20])
    assert isinstance(view, memoryview)
    assert view.obj is data
    buffer = bytearray(data)
    for changing in (buffer, memoryview(buffer), memoryview(buffer)[::2], memoryview(data)[::2]):
        assert isinstance(stable(changing), bytes)
