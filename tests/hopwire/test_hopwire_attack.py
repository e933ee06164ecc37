"""``hopwire replay`` and ``hopwire send`` against a real listener: what is done to it, and what it does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hopwire_support import a_move, saved
from support.net_helpers import CONFIG, DEADLINE_S, until
from support.net_security import Device

from hopwire.attack.faults import Close, Culprit, Fault, Pause, Write, flipped
from hopwire.attack.outcomes import Heard, Outcome, outcome_json, outcome_lines
from hopwire.attack.replaying import Manner, Player
from hopwire.attack.scripts import Names, bytes_of, check_steps, frame_of, parse_json
from hopwire.attack.sending import Sending
from hopwire.attack.surveying import frames_of, survey
from hopwire.cli import main
from hopwire.errors import WireError
from hopwire.events import EndSeen, Seen
from hopwire.filtering import compile_filter
from hopwire.flow.records import About
from hopwire.flow.writer import FlowWriter
from hopwire.recorder import Recorder
from hopwire.recordings import open_recording
from hopwire.tapping.identities import dialing_context
from hopwire.tapping.relay import Tap
from streamhop.config import Address
from streamhop.net import PeerSession, Security, SessionLost, dial, serve
from streamhop_protocol.frames import decode_prefix, encode_frame
from streamhop_protocol.messages import Query, State, StreamKind

MOVE = bytes(range(16))
CHUNKS = [b"chunk %d " % number * 5000 for number in range(4)]
QUICK = Manner(patience_s=1.0, linger_s=0.5)
"""For what is waited for in vain."""

PATIENT = Manner(patience_s=10.0, linger_s=5.0)
"""For what comes, be the machine as busy as it may: it takes as long as that takes."""


class Daemon:
    """What a test's daemon has taken: it answers questions, and takes every stream."""

    def __init__(self) -> None:
        self.moves: list[bytes] = []
        self.chunks: list[bytes] = []
        self.errors: list[str] = []

    async def __call__(self, session: PeerSession) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._answer(session))
                tasks.create_task(self._take(session))
        except* SessionLost as group:
            self.errors += [str(error) for error in group.exceptions]

    async def _answer(self, session: PeerSession) -> None:
        while True:
            message = await session.receive()
            if isinstance(message, Query):
                self.moves.append(message.move)
                await session.send(State(message.move, 1, "unknown"))

    async def _take(self, session: PeerSession) -> None:
        while True:
            stream = await session.accept_stream()
            async for chunk in stream:
                self.chunks.append(bytes(chunk.data))
            await stream.done()


@contextlib.asynccontextmanager
async def listening(security: Security | None = None) -> AsyncIterator[tuple[Daemon, Address]]:
    daemon = Daemon()
    async with (
        asyncio.timeout(DEADLINE_S),
        await serve("127.0.0.1", 0, CONFIG, name="edge-b", on_session=daemon, security=security) as listener,
    ):
        yield daemon, Address("127.0.0.1", listener.port)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A session with a question and a stream, as a tap has recorded it."""
    path = tmp_path_factory.mktemp("replay") / "session.flow"
    asyncio.run(_record(path))
    return str(path)


async def _record(path: Path) -> None:
    told: list[Seen] = []
    async with listening() as (daemon, address):
        with path.open("wb") as file:
            writer = FlowWriter(file, About("tap", 0, payload=True))
            async with Tap(Address("127.0.0.1", 0), address, Recorder(writer, told.append)) as tap:
                async with await dial("127.0.0.1", tap.port, CONFIG, name="edge-a") as session:
                    await session.send(Query(MOVE))
                    assert (await session.receive()).__class__ is State
                    stream = await session.open_stream(StreamKind.MEMORY, {"round": 0})
                    for chunk in CHUNKS:
                        await stream.write(chunk)
                    await stream.finish()
                await until(lambda: sum(isinstance(event, EndSeen) for event in told) == 6)
            writer.close()
        assert daemon.chunks == CHUNKS


async def played(recording: str, daemon: Address, fault: Fault, at: str = "type == DATA", **more: Any) -> Outcome:
    wanted = None if fault is Fault.NONE else compile_filter(at)
    manner = more.pop("manner", PATIENT)
    tls: ssl.SSLContext | None = more.pop("tls", None)
    with open_recording(recording) as events:
        found = survey(events, 1, wanted, more.pop("nth", 1))
    with open_recording(recording) as events:
        return await Player(daemon, tls, found, Culprit(fault, **more), manner).play(frames_of(events, 1))


async def test_without_a_fault_the_daemon_takes_everything_again(recording: str) -> None:
    async with listening() as (daemon, address):
        outcome = await played(recording, address, Fault.NONE)
        assert daemon.chunks == CHUNKS
    assert len(daemon.moves) == 1
    assert daemon.moves[0] != MOVE  # one that it cannot know
    assert outcome.verdict.startswith("it took everything, and closed")
    assert outcome.gave_up == ""
    assert [heard.what for heard in outcome.heard][:4] == ["WELCOME", "JOINED", "JOINED", "STATE"]
    assert "DONE" in outcome.counts


async def test_moves_may_keep_their_ids(recording: str) -> None:
    async with listening() as (daemon, address):
        await played(recording, address, Fault.NONE, manner=replace(PATIENT, keep_move=True))
    assert daemon.moves == [MOVE]


@pytest.mark.parametrize(
    ("fault", "more", "verdict", "chunks"),
    [
        (Fault.DROP, {}, r"it did not do what it did when this was recorded: no answer 2 in 1 s", 0),
        (Fault.DROP, {"at": "type == JOIN", "nth": 2}, r"no JOINED in 1 s", 0),
        (Fault.DROP, {"at": "type == HELLO"}, r"no WELCOME", 0),
        (Fault.DUPLICATE, {}, r'it answered ERROR "unexpected" after', None),
        (Fault.DUPLICATE, {"at": "type == QUERY"}, r"it took everything, and closed", 4),
        (Fault.REORDER, {}, r"it took everything, and closed", 4),
        (Fault.REORDER, {"at": "type == END"}, r"no answer 2", 4),
        (Fault.DELAY, {"delay_s": 0.2}, r"it took everything, and closed", 4),
        (Fault.FLIP, {"bit": 0}, r'it answered ERROR "limit" after', 0),
        (Fault.FLIP, {"bit": 8 * 6 + 7, "at": "type == QUERY"}, r'it answered ERROR "(malformed|unexpected)"', None),
        (Fault.FLIP, {"bit": 8 * 12}, r'it answered ERROR "malformed" after', 0),
        (Fault.TRUNCATE, {}, r"no answer 2|it closed payload", 0),
    ],
)
async def test_what_a_fault_does(
    recording: str, fault: Fault, more: dict[str, Any], verdict: str, chunks: int | None
) -> None:
    async with listening() as (daemon, address):
        manner = QUICK if "no " in verdict else PATIENT
        outcome = await played(recording, address, fault, manner=manner, **more)
    assert re.search(verdict, outcome.verdict), outcome.verdict
    assert outcome.did
    if chunks is not None:
        assert len(daemon.chunks) == chunks
        assert daemon.chunks == CHUNKS[:chunks]


async def test_over_tls(tmp_path: Path, recording: str) -> None:
    a, b = Device(tmp_path, "a"), Device(tmp_path, "b")
    async with listening(b.server(a)) as (daemon, address):
        tls = dialing_context(tmp_path / "a", tmp_path / "b" / "certificate.pem")
        await played(recording, address, Fault.NONE, tls=tls)
        assert daemon.chunks == CHUNKS
        Device(tmp_path, "c")
        other = dialing_context(tmp_path / "c", tmp_path / "b" / "certificate.pem")
        outcome = await played(recording, address, Fault.NONE, tls=other)
    assert "WELCOME" not in outcome.counts


def test_what_cannot_be_played_is_said_before_anything_is_sent(tmp_path: Path, recording: str) -> None:
    bare, nowhere = saved(tmp_path, a_move()), "127.0.0.1:1"
    for arguments, why in (
        ([bare, nowhere], "record it with `hopwire tap --payload`"),
        ([recording, nowhere, "--session", "2"], "there is no session 2"),
        ([recording, nowhere, "--fault", "drop", "--nth", "99"], "not 99: type == DATA"),
        ([recording, nowhere], "cannot be reached"),
        ([recording, nowhere, "--identity", str(tmp_path)], "TLS takes both"),
    ):
        done = CliRunner().invoke(main, ["replay", *arguments])
        assert done.exit_code in (1, 2)
        assert why in done.stderr


async def test_the_command_replay(recording: str) -> None:
    async with listening() as (_, address):
        arguments = ["replay", recording, str(address), "--fault", "duplicate", "--linger", "1"]
        run = CliRunner().invoke
        text = await asyncio.to_thread(run, main, arguments)
        as_json = await asyncio.to_thread(run, main, [*arguments, "--format", "json"])
    assert text.exit_code == as_json.exit_code == 0
    lines = text.output.splitlines()
    assert lines[1].startswith("fault: duplicate, frame ")
    assert lines[-1].startswith('verdict: it answered ERROR "unexpected"')
    assert json.loads(as_json.output)["verdict"].startswith("it answered ERROR")
    assert "token" not in text.output + as_json.output


# -- pure parts --------------------------------------------------------------------------------------------------------

FRAME = encode_frame(0x11, b"\x81\xa3seq\x01", b"payload", flags=1, stream=1)


def test_faults() -> None:
    other = encode_frame(0x05, b"\x81\xa6number\x01")
    assert list(Culprit(Fault.DROP).chosen("a", FRAME)) == []
    assert list(Culprit(Fault.DUPLICATE).chosen("a", FRAME)) == [Write(FRAME), Write(FRAME)]
    assert list(Culprit(Fault.DELAY, delay_s=2.0).chosen("a", FRAME)) == [Pause(2.0), Write(FRAME)]
    truncate = list(Culprit(Fault.TRUNCATE).chosen("a", FRAME))
    assert truncate == [Write(FRAME[: len(FRAME) // 2 + 1]), Close()]
    reorder = Culprit(Fault.REORDER)
    assert list(reorder.chosen("a", FRAME)) == []
    assert list(reorder.other("b", other)) == [Write(other)]
    assert list(reorder.other("a", other)) == [Write(other), Write(FRAME)]
    assert reorder.left() is None
    assert list(reorder.chosen("a", FRAME)) == []
    assert reorder.left() == ("a", FRAME)


def test_a_bit() -> None:
    def differing(bit: int | None, frame: bytes = FRAME) -> list[int]:
        changed = int.from_bytes(flipped(frame, bit), "big") ^ int.from_bytes(frame, "big")
        return [number for number in range(8 * len(frame)) if changed >> (8 * len(frame) - 1 - number) & 1]

    assert differing(0) == [0]
    assert differing(77) == [77]
    (in_payload,) = differing(None)
    assert in_payload // 8 >= len(FRAME) - len(b"payload")
    (in_header,) = differing(None, encode_frame(0x05, b"\x81\xa6number\x01"))
    assert in_header // 8 >= 12
    with pytest.raises(ValueError, match="none of number"):
        flipped(FRAME, 8 * len(FRAME))


def test_what_a_daemon_says_is_escaped() -> None:
    outcome = Outcome(heard=[Heard(1.0, "control", "ERROR", {"code": "\x1b[2J", "reason": "\x07"})], did="drop")
    text = "\n".join(outcome_lines(outcome)) + json.dumps(outcome_json(outcome))
    assert "\x1b" not in text
    assert "\x07" not in text


# -- scripts -----------------------------------------------------------------------------------------------------------


def one(**step: Any) -> bytes:
    (checked,) = check_steps([step])
    return frame_of(checked, Names(move=MOVE))


def test_frames_by_hand() -> None:
    assert one(type="PING", fields={"number": 7}) == encode_frame(0x05, b"\x81\xa6number\x07", flags=1)
    assert one(
        type=0x7E, flags=0, header={"hex": "00ff"}, payload={"repeat": {"text": "ab"}, "times": 2}, stream=9
    ) == (encode_frame(0x7E, b"\x00\xff", b"abab", stream=9))
    assert MOVE in one(type="QUERY", fields={"move": "$move"})
    lie = decode_prefix(one(type="DATA", payload={"zeros": 3}, payload_len=2**32 - 1, header_len=65535, flags=["more"]))
    assert (lie.payload_bytes, lie.header_bytes, lie.flags) == (2**32 - 1, 65535, 2)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "a script is a list of steps"),
        ("[1]", "step 1: a int, not a map"),
        ("[{}]", "step 1: it needs exactly one of session, connect"),
        ('[{"type": "PING", "wait": "PONG"}]', "exactly one"),
        ('[{"pause": 0}, {"type": "PING", "colour": 1}]', "step 2: 'colour' means nothing beside 'type'"),
        ('[{"pause": -1}]', "seconds must be between"),
        ('[{"wait": 5}]', "wait takes a name"),
        ('[{"session": 5}]', "session takes a map"),
    ],
)
def test_scripts_that_are_none(script: str, why: str) -> None:
    with pytest.raises(WireError, match=why.replace("[", r"\[")):
        parse_json(script)


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ({"type": "PANG"}, "is no type of frames"),
        ({"type": True}, "a name or a number"),
        ({"type": 300}, "does not fit into a prefix"),
        ({"type": "PING", "stream": -1}, "does not fit into a prefix"),
        ({"type": "PING", "stream": "x"}, "does not fit into a prefix"),
        ({"type": "PING", "flags": ["loud"]}, "flags must be a number, or a list"),
        ({"type": "PING", "header": {"hex": "0"}}, "not hexadecimal"),
        ({"type": "PING", "payload": {"zeros": 1 << 40}}, "at most 64 MiB"),
        ({"type": "PING", "payload": {"repeat": {"zeros": 1000}, "times": 1 << 20}}, "at most 64 MiB"),
        ({"type": "PING", "payload": "$token"}, "stands for no bytes here"),
        ({"type": "PING", "fields": {"number": 1 << 80}}, "fields cannot be packed"),
    ],
)
def test_frames_that_cannot_be_made(step: dict[str, Any], why: str) -> None:
    with pytest.raises(WireError, match=f"step 1: .*{why}"):
        one(**step)


def test_bytes() -> None:
    (step,) = check_steps([{"raw": {"hex": "00"}}])
    assert bytes_of(step, {"text": "é"}, Names()) == "é".encode()
    assert len(bytes_of(step, "$move", Names())) == 16


async def test_a_script_that_is_honest() -> None:
    steps = check_steps(
        [
            {"session": {"connections": 2}},
            {"type": "PING", "fields": {"number": 7}},
            {"wait": "PONG"},
            {"type": "QUERY", "fields": {"move": "$move"}},
            {"wait": "STATE"},
            {"type": "OPEN", "on": "p1", "stream": 1, "fields": {"kind": "memory"}},
            {"type": "DATA", "on": "p2", "stream": 1, "fields": {"seq": 1, "codec": 0, "raw_bytes": 5},
             "payload": {"text": "hello"}},
            {"type": "END", "on": "p1", "stream": 1, "fields": {"seq": 2}},
            {"wait": "DONE"},
            {"type": "BYE"},
            {"wait": "closed"},
        ]
    )  # fmt: skip
    async with listening() as (daemon, address):
        outcome = await Sending(address, None, 1.0).run(steps)
    assert daemon.chunks == [b"hello"]
    assert outcome.gave_up == ""
    assert outcome.verdict.startswith("it took everything, and closed")


BARE = {"connect": "control", "preamble": False}


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        ([BARE, {"raw": {"text": "GET / HTTP/1.1\r\n"}}, {"wait": "ERROR"}], "malformed"),
        ([{"session": {}}, {"type": 0x7E}, {"wait": "ERROR"}], "unexpected"),
        ([{"session": {}}, {"type": "PING", "payload_len": 4}, {"wait": "ERROR"}], "limit"),
        ([{"session": {}}, {"type": "PREPARE", "fields": {"move": "$move"}}, {"wait": "ERROR"}], "malformed"),
        ([{"session": {}}, {"wait": "STATE", "seconds": 0.1}], "step 2: no STATE in 0.1 s"),
        ([{"session": {}}, {"close": "p1"}, {"wait": "closed"}], "it took everything, and closed"),
    ],
)  # fmt: skip
async def test_scripts_that_are_not(steps: list[dict[str, Any]], verdict: str) -> None:
    async with listening() as (_, address):
        outcome = await Sending(address, None, 0.5).run(check_steps(steps))
    assert verdict in outcome.verdict


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([{"type": "PING"}], "there is no connection 'control'; open are none"),
        ([{"connect": "a"}, {"connect": "a"}], "is open already"),
        ([{"connect": str(number)} for number in range(17)], "more than 16 connections"),
        ([{"session": {"connections": 99}}], "step 1: connections of Hello is 99"),
    ],
)
async def test_steps_that_cannot_be_carried_out(steps: list[dict[str, Any]], why: str) -> None:
    async with listening() as (_, address):
        with pytest.raises(WireError, match=why):
            await Sending(address, None, 0.5).run(check_steps(steps))


async def test_the_command_send(tmp_path: Path) -> None:
    as_json, python = tmp_path / "x.json", tmp_path / "x.py"
    as_json.write_text('[{"session": {}}, {"type": "QUERY", "fields": {"move": "$move"}}, {"wait": "STATE"}]')
    python.write_text("def steps():\n    yield {'session': {}}\n    yield {'type': 126}\n    yield {'wait': 'ERROR'}\n")
    async with listening() as (_, address):
        ran = [
            await asyncio.to_thread(CliRunner().invoke, main, ["send", str(address), str(script), "--linger", "0"])
            for script in (as_json, python)
        ]
    assert [done.exit_code for done in ran] == [0, 0]
    assert " control  STATE move=" in ran[0].output
    assert 'state="unknown"' in ran[0].output
    assert ran[1].output.splitlines()[-1].startswith('verdict: it answered ERROR "unexpected"')


def test_files_that_are_no_scripts(tmp_path: Path) -> None:
    (tmp_path / "no.py").write_text("x = 1\n")
    (tmp_path / "no.json").write_text("{")
    for name, why in (
        ("no.py", "no function `steps`"),
        ("no.json", "not JSON"),
        ("none.json", "No such file"),
        ("none.py", "No such file"),
    ):
        done = CliRunner().invoke(main, ["send", "127.0.0.1:1", str(tmp_path / name)])
        assert done.exit_code == 1
        assert why in done.stderr
