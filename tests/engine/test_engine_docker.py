"""The client of the Docker engine, against an engine played by a small HTTP server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from streamhop.engine.docker import Conflict, Engine, EngineError, NotFound, runc_root

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeEngine:
    """Answers from ``answers``: "METHOD path" to (status, JSON), and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[str] = []
        self.bodies: list[bytes] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        path = request.path.partition("/v1.51")[2] or request.path
        if path == "/version":
            return web.json_response({"ApiVersion": "1.51", "Version": "28.5.2"})
        self.asked.append(f"{request.method} {path}" + (f"?{request.query_string}" if request.query_string else ""))
        self.bodies.append(body)
        status, answer = self.answers.get(f"{request.method} {path}", (404, {"message": "nothing of that name"}))
        if isinstance(answer, bytes):
            return web.Response(status=status, body=answer, content_type="application/json")
        return web.json_response(answer, status=status) if answer is not None else web.Response(status=status)


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def engine(fake: FakeEngine, tmp_path: Path) -> AsyncIterator[Engine]:
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "docker.sock")).start()
    async with Engine(f"unix://{tmp_path}/docker.sock") as client:
        yield client
    await runner.cleanup()


async def test_no_engine(tmp_path: Path) -> None:
    async with Engine(f"unix://{tmp_path}/none.sock") as client:
        with pytest.raises(EngineError, match="cannot be reached at unix://") as caught:
            await client.inspect_container("web")
    assert caught.value.status == 0


async def test_docker_host_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/x.sock")
    client = await Engine.open()
    with pytest.raises(EngineError, match=r"x\.sock"):
        await client.info()
    await client.close()
    await client.close()
    with pytest.raises(EngineError, match="closed"):
        await client.info()


async def test_an_address_that_is_none() -> None:
    with pytest.raises(EngineError, match="DOCKER_HOST"):
        await Engine.open("gopher://x")


async def test_statuses_become_errors(fake: FakeEngine, engine: Engine) -> None:
    fake.answers["POST /containers/a/pause"] = (409, {"message": "already paused"})
    fake.answers["POST /containers/a/start"] = (500, {"message": "OCI runtime start failed: streamhop: no"})
    with pytest.raises(NotFound, match="nothing of that name"):
        await engine.inspect_container("a")
    with pytest.raises(Conflict, match="already paused"):
        await engine.pause("a")
    with pytest.raises(EngineError, match="streamhop: no") as caught:
        await engine.start("a")
    assert caught.value.status == 500


@pytest.mark.parametrize("name", ["../info", "a/b", "", "a?x", "-a"])
async def test_names_that_would_change_the_url_are_not_sent(name: str, fake: FakeEngine, engine: Engine) -> None:
    for call in (engine.inspect_container, engine.start, engine.remove, engine.inspect_network):
        with pytest.raises(NotFound):
            await call(name)
    assert fake.asked == []


@pytest.mark.parametrize("reference", ["../x", "a/../b", "a//b", "", "a b", "a?b"])
async def test_image_references_likewise(reference: str, fake: FakeEngine, engine: Engine) -> None:
    for call in (engine.inspect_image, engine.remove_image):
        with pytest.raises(NotFound):
            await call(reference)
    assert fake.asked == []


async def test_creates_updates_and_removes(fake: FakeEngine, engine: Engine) -> None:
    fake.answers["POST /containers/create"] = (201, {"Id": "c" * 64, "Warnings": []})
    fake.answers["POST /containers/c/update"] = (200, {"Warnings": None})
    fake.answers["DELETE /containers/c"] = (204, None)
    assert await engine.create_container({"Image": "web:1"}, "web") == "c" * 64
    await engine.update_restart_policy("c", {"Name": "no", "MaximumRetryCount": 0})
    assert json.loads(fake.bodies[-1]) == {"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}}
    await engine.remove("c", force=True)
    assert fake.asked[-1].startswith("DELETE /containers/c?")
    assert "force=" in fake.asked[-1]


@pytest.mark.parametrize("running", [False, True])
async def test_a_container_that_died_is_killed_enough(running: bool, fake: FakeEngine, engine: Engine) -> None:
    state = {"Paused": False, "Pid": 0, "Running": running}
    fake.answers["GET /containers/c/json"] = (200, {"State": state})
    fake.answers["POST /containers/c/kill"] = (409, {"message": "is not running"})
    if running:
        with pytest.raises(Conflict):
            await engine.kill("c")
    else:
        await engine.kill("c")


async def test_saves_in_chunks_and_loads_from_both_kinds(fake: FakeEngine, engine: Engine, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10000
    fake.answers["GET /images/web:1/get"] = (200, content)
    chunks = [chunk async for chunk in engine.save_image("web:1")]
    assert b"".join(chunks) == content
    assert len(chunks) > 1
    fake.answers["POST /images/load"] = (200, b'{"stream":"Loaded image: web:1\\n"}\n')

    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    assert await engine.load_image(stream()) == ["Loaded image: web:1"]
    (tmp_path / "image.tar").write_bytes(content)
    assert await engine.load_image(tmp_path / "image.tar") == ["Loaded image: web:1"]
    assert fake.bodies[-2:] == [content, content]
    with pytest.raises(EngineError, match=r"missing\.tar"):
        await engine.load_image(tmp_path / "missing.tar")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b'{"errorDetail":{"message":"unexpected EOF"},"error":"unexpected EOF"}\n', "unexpected EOF"),
        (b'{"stream":"Loading layer"}\n', "broke off"),
        (b"", "broke off"),
        (b"<html>\n", "not the Docker engine's"),
    ],
)
async def test_a_load_that_failed_is_no_success(answer: bytes, reason: str, fake: FakeEngine, engine: Engine) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        yield b"x"

    fake.answers["POST /images/load"] = (200, answer)
    with pytest.raises(EngineError, match=reason):
        await engine.load_image(nothing())


def test_runc_root(tmp_path: Path) -> None:
    assert runc_root("streamhop", tmp_path) == tmp_path / "runtime-runc" / "moby"
    (tmp_path / "runtime-old" / "moby").mkdir(parents=True)
    assert runc_root("old", tmp_path) == tmp_path / "runtime-old" / "moby"


@pytest.mark.parametrize("name", ["../x", "", "a/b", "io.containerd.kata.v2"])
def test_runtimes_without_runc_state(name: str) -> None:
    with pytest.raises(EngineError):
        runc_root(name)


@pytest.mark.parametrize(("live_restore", "asked_to"), [(False, False), (True, True)])
async def test_what_a_starting_engine_ended_was_nobodys_wish(
    fake: FakeEngine, engine: Engine, monkeypatch: pytest.MonkeyPatch, *, live_restore: bool, asked_to: bool
) -> None:
    """P7: dockerd kills what it finds running as it starts; the container stayed down whatever its policy was."""
    state = {"StartedAt": "2026-01-01T00:00:00.123456789Z", "FinishedAt": "2026-01-01T00:01:00.5Z"}
    fake.answers["GET /events"] = (200, b'{"Action": "kill"}\n')
    fake.answers["GET /info"] = (200, {"LiveRestoreEnabled": live_restore})
    monkeypatch.setattr("streamhop.engine.docker.started_at", lambda _: 1767225630.0)
    assert await engine.was_asked_to_end("web", state) is asked_to
    monkeypatch.setattr("streamhop.engine.docker.started_at", lambda _: 1767225670.0)
    assert await engine.was_asked_to_end("web", state)


@pytest.mark.parametrize(("events", "asked_to"), [(b"", False), (b'{"Action": "kill"}\n{"Action": "stop"}\n', True)])
async def test_a_run_that_somebody_ended_is_told_from_one_that_ended_by_itself(
    fake: FakeEngine, engine: Engine, events: bytes, *, asked_to: bool
) -> None:
    state = {"StartedAt": "2026-01-01T00:00:00.123456789Z", "FinishedAt": "2026-01-01T00:01:00.5Z"}
    fake.answers["GET /events"] = (200, events)
    assert await engine.was_asked_to_end("web", state) is asked_to
    query = parse_qs(fake.asked[-1].partition("?")[2])
    # Docker takes no other form here than seconds since the epoch.
    assert (query["since"], query["until"]) == (["1767225600.123456"], ["1767225662.500000"])
    assert json.loads(query["filters"][0]) == {"container": ["web"], "event": ["kill", "stop"]}
    fake.answers["GET /events"] = (500, {"message": "no"})
    with pytest.raises(EngineError):
        await engine.was_asked_to_end("web", state)
