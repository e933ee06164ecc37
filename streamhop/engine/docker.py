"""The Docker Engine API, as far as moves need it. Nothing of aiodocker or aiohttp is seen outside of this module."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import re
import signal as signals
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiodocker
import aiohttp

from .engine_process import started_at
from .processes import kill_all

DEFAULT_HOST = "unix:///var/run/docker.sock"

EXEC_ROOT = Path("/run/docker")
"""Docker's directory for what ends with a reboot; its option ``exec-root``."""

CONNECT_S_MAX = 10.0
"""How long a connection may take. Answers are not limited: `start` of a moved container takes as long as the move."""

EVENT_LATE_S_MAX = 2.0
"""How long after the end of a container Docker may still note an event about it."""

NOT_HTTP_STATUS = 900
"""From here on aiodocker's statuses are its own: there was no connection."""

SAVE_CHUNK_BYTES = 1 << 20

_RUNTIME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,255}")
_REFERENCE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.:@/-]{0,510}[a-zA-Z0-9])?")


class EngineError(Exception):
    """The Docker engine would not, or could not be asked.

    :param reason: what failed, for a person.
    :param status: the HTTP status, 0 if there was none.
    """

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class NotFound(EngineError):  # noqa: N818 - the callers' name for a 404; it is not always an error
    """There is no such container, image or network."""


class Conflict(EngineError):  # noqa: N818 - as NotFound
    """The object is in a state that does not allow this, or in use."""


def runc_root(runtime: str, exec_root: Path = EXEC_ROOT) -> Path:
    """Where the containers of the runtime registered as ``runtime`` have their state: what ``runc --root`` takes.

    Docker 28 keeps every runtime that is registered by its path in ``runtime-runc``; one that has a directory of its
    own has it there. Source: moby, daemon/runtime_unix.go; containerd's runc shim appends its namespace.

    :raises EngineError: ``runtime`` is not a plain name (shims of other kinds keep no runc state at all).
    """
    if not _RUNTIME_NAME.fullmatch(runtime) or runtime.startswith("io.containerd."):
        raise EngineError(f"{runtime!r} is not the name of a runtime in Docker's configuration")
    own = exec_root / f"runtime-{runtime}" / "moby"
    return own if own.is_dir() else exec_root / "runtime-runc" / "moby"


def _container(name: str) -> str:
    """``name`` is put into a URL's path: nothing but what Docker accepts as a name may go there."""
    if not _CONTAINER.fullmatch(name):
        raise NotFound(f"there is no container {name!r}", 404)
    return name


def _reference(reference: str) -> str:
    if not _REFERENCE.fullmatch(reference) or ".." in reference or "//" in reference:
        raise NotFound(f"there is no image {reference!r}", 404)
    return reference


def _network(name: str) -> str:
    if not _CONTAINER.fullmatch(name):
        raise NotFound(f"there is no network {name!r}", 404)
    return name


def _volume(name: str) -> str:
    if not _CONTAINER.fullmatch(name):
        raise NotFound(f"there is no volume {name!r}", 404)
    return name


class Engine:
    """A client of one Docker engine: ``DOCKER_HOST``, else the local socket.

    Use as an asynchronous context manager, or :meth:`open` and :meth:`close`. Every method raises
    :class:`EngineError` or one of its classes and nothing else.
    """

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self._client: aiodocker.Docker | None = None

    @classmethod
    async def open(cls, host: str | None = None) -> Self:
        """A client that is ready; nothing is sent yet.

        :raises EngineError: ``host`` is not an address that is understood.
        """
        engine = cls(host)
        engine._connect()
        return engine

    async def __aenter__(self) -> Self:
        self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let the connections go. Safe to repeat."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _connect(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S_MAX)
        try:
            self._client = aiodocker.Docker(url=self.host, timeout=timeout)
        except ValueError as error:
            raise EngineError(f"DOCKER_HOST={self.host} is not an address of a Docker engine: {error}") from error

    @property
    def _docker(self) -> aiodocker.Docker:
        if self._client is None:
            raise EngineError("the client of the Docker engine is closed")
        return self._client

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Translate every error of the libraries below. ``what`` says what was tried."""
        try:
            yield
        except aiodocker.DockerError as error:
            if error.status >= NOT_HTTP_STATUS:
                cause = error.__context__.strerror if isinstance(error.__context__, OSError) else error.message
                raise EngineError(f"the Docker engine cannot be reached at {self.host}: {cause}") from error
            kind = {404: NotFound, 409: Conflict}.get(error.status, EngineError)
            raise kind(f"{what}: {error.message}", error.status) from error
        except aiohttp.ClientConnectorError as error:
            raise EngineError(
                f"the Docker engine cannot be reached at {self.host}: {error.os_error.strerror}"
            ) from error
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            raise EngineError(f"{what}: the connection to the Docker engine broke: {error}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise EngineError(f"{what}: the answer is not the Docker engine's: {error}") from error

    # -- containers ------------------------------------------------------------------------------------------------

    async def inspect_container(self, name_or_id: str) -> dict[str, Any]:
        """What ``docker inspect`` prints."""
        name = _container(name_or_id)
        with self._asking(f"cannot look at container {name}"):
            return await self._docker.containers.container(name).show()

    async def list_containers(self, all: bool = False) -> list[dict[str, Any]]:  # noqa: A002 - Docker's name for it
        """Running containers, or all, in the form of ``GET /containers/json``."""
        with self._asking("cannot list the containers"):
            found = await self._docker.containers.list(all=all)
            return [dict(container._container) for container in found]  # noqa: SLF001 - no public way to the row

    async def create_container(self, body: dict[str, Any], name: str) -> str:
        """Make a container from the body of ``POST /containers/create``; returns its ID."""
        with self._asking(f"cannot create container {_container(name)}"):
            created = await self._docker.containers.create(body, name=name)
            return str(created.id)

    async def rename(self, container: str, name: str) -> None:
        """Call a container ``name`` from now on."""
        with self._asking(f"cannot rename container {container[:12]} to {_container(name)}"):
            await self._docker.containers.container(_container(container)).rename(name)

    async def start(self, container: str) -> None:
        """Start it; returns when the runtime's ``start`` has returned, which for a restore is after GO."""
        with self._asking(f"cannot start container {container[:12]}"):
            await self._docker.containers.container(_container(container)).start()

    async def pause(self, container: str) -> None:
        """Freeze every process of it."""
        with self._asking(f"cannot pause container {container[:12]}"):
            await self._docker.containers.container(_container(container)).pause()

    async def unpause(self, container: str) -> None:
        """Let a paused container go on."""
        with self._asking(f"cannot unpause container {container[:12]}"):
            await self._docker.containers.container(_container(container)).unpause()

    async def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send ``signal``. A paused container that gets SIGKILL dies without executing another instruction.

        Docker sends the signal to the first process alone and then thaws the container: the others would run until
        the kernel gets to them. So each is given its own SIGKILL while all are frozen.
        """
        name = _container(container)
        if signal == "SIGKILL":
            state = (await self.inspect_container(name))["State"]
            if state["Paused"] and state["Pid"]:
                await asyncio.to_thread(kill_all, state["Pid"], signals.SIGKILL)
        try:
            with self._asking(f"cannot kill container {name[:12]}"):
                await self._docker.containers.container(name).kill(signal=signal)
        except Conflict:
            # "is not running": on cgroup v2 the frozen processes died at once, and Docker may know already.
            if signal != "SIGKILL" or (await self.inspect_container(name))["State"]["Running"]:
                raise

    async def remove(self, container: str, force: bool = True, v: bool = False) -> None:
        """Remove it, killing it first if ``force``; with its anonymous volumes if ``v``."""
        with self._asking(f"cannot remove container {container[:12]}"):
            await self._docker.containers.container(_container(container)).delete(force=force, v=v)

    async def was_asked_to_end(self, container: str, state: Mapping[str, Any]) -> bool:
        """Whether somebody had Docker stop or kill the run of a container that ended as ``state`` says.

        Any signal counts, as it does for Docker (moby, daemon/kill.go: HasBeenManuallyStopped, which it tells nobody).
        Docker keeps its last 256 events, and none from before its own start. As it starts it ends what it finds
        running, by the same signals, and tells of it by the same events: that is nobody's wish.

        :param state: of the container, as ``docker inspect`` prints it.
        """
        started, finished = (dt.datetime.fromisoformat(state[key]) for key in ("StartedAt", "FinishedAt"))
        if finished <= started:
            # Nothing that Docker has seen to its end, or the clock was set back: then nothing is known.
            return False
        engine_began = await asyncio.to_thread(started_at, self.host)
        began_between = engine_began is not None and started.timestamp() < engine_began < finished.timestamp()
        # With `live-restore` it lets them run, and whoever ended this one did so later.
        if began_between and not (await self.info()).get("LiveRestoreEnabled"):
            return False
        query = {
            "since": f"{started.timestamp():.6f}",
            "until": f"{finished.timestamp() + EVENT_LATE_S_MAX:.6f}",
            "filters": json.dumps({"container": [_container(container)], "event": ["kill", "stop"]}),
        }
        with self._asking(f"cannot ask what was done to container {container[:12]}"), contextlib.suppress(TimeoutError):
            # What is remembered comes at once. If the clock was set back, Docker would wait for more until then.
            async with asyncio.timeout(2 * EVENT_LATE_S_MAX):
                # aiodocker's own call is a subscription without an end.
                async with self._docker._query("events", params=query) as answer:  # noqa: SLF001 - see above
                    return bool(await answer.content.readline())
        return False

    async def update_restart_policy(self, container: str, policy: dict[str, Any]) -> None:
        """Set what Docker does when the container ends: ``{"Name": ..., "MaximumRetryCount": ...}``."""
        with self._asking(f"cannot change the restart policy of container {container[:12]}"):
            await self._docker._query_json(  # noqa: SLF001 - aiodocker has no call of its own for this
                f"containers/{_container(container)}/update", "POST", data={"RestartPolicy": policy}
            )

    # -- networks --------------------------------------------------------------------------------------------------

    async def inspect_network(self, name: str) -> dict[str, Any]:
        """What ``docker network inspect`` prints."""
        with self._asking(f"cannot look at network {name}"):
            network = await self._docker.networks.get(_network(name))
            return await network.show()

    async def list_networks(self) -> list[dict[str, Any]]:
        """All networks, in the form of ``GET /networks``."""
        with self._asking("cannot list the networks"):
            return [dict(network) for network in await self._docker.networks.list()]

    async def create_network(self, body: dict[str, Any]) -> None:
        """Make a network from the body of ``POST /networks/create``."""
        with self._asking(f"cannot create network {_network(body['Name'])}"):
            await self._docker.networks.create(body)

    async def remove_network(self, name: str) -> None:
        """Remove a network that nobody is in."""
        with self._asking(f"cannot remove network {_network(name)}"):
            async with self._docker._query(f"networks/{name}", "DELETE"):  # noqa: SLF001 - aiodocker would ask twice
                return

    # -- volumes ---------------------------------------------------------------------------------------------------

    async def inspect_volume(self, name: str) -> dict[str, Any]:
        """What ``docker volume inspect`` prints."""
        with self._asking(f"cannot look at volume {_volume(name)}"):
            return dict(await self._docker._query_json(f"volumes/{name}"))  # noqa: SLF001 - aiodocker would ask twice

    async def create_volume(self, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """Make a volume of files of this host; one of that name that is there already stays as it is.

        :returns: what ``docker volume inspect`` prints of it.
        """
        body = {"Name": _volume(name), "Driver": "local", "Labels": dict(labels)}
        with self._asking(f"cannot create volume {name}"):
            return dict(await self._docker._query_json("volumes/create", "POST", data=body))  # noqa: SLF001 - as above

    async def remove_volume(self, name: str) -> None:
        """Remove a volume with all that is in it.

        :raises Conflict: a container has it.
        """
        with self._asking(f"cannot remove volume {_volume(name)}"):
            async with self._docker._query(f"volumes/{name}", "DELETE"):  # noqa: SLF001 - as above
                return

    # -- images ----------------------------------------------------------------------------------------------------

    async def images(self) -> list[dict[str, Any]]:
        """All images, in the form of ``GET /images/json``."""
        with self._asking("cannot list the images"):
            return await self._docker.images.list()

    async def inspect_image(self, reference: str) -> dict[str, Any]:
        """What ``docker image inspect`` prints."""
        with self._asking(f"cannot look at image {reference}"):
            return await self._docker.images.inspect(_reference(reference))

    async def save_image(self, reference: str) -> AsyncIterator[bytes]:
        """Yield what ``docker save`` writes, a chunk at a time."""
        with self._asking(f"cannot save image {reference}"):
            async with self._docker.images.export_image(_reference(reference)) as content:
                async for chunk in content.iter_chunked(SAVE_CHUNK_BYTES):
                    yield chunk

    async def load_image(self, archive: AsyncIterator[bytes] | Path) -> list[str]:
        """Load what ``docker save`` wrote.

        :param archive: the tar, as a file or in chunks.
        :returns: the lines that the engine answers, such as ``Loaded image: web:1``.
        :raises EngineError: the engine refused it, or the answer broke off.
        """
        with self._asking("cannot load the image"):
            if isinstance(archive, Path):
                try:
                    file = await asyncio.to_thread(archive.open, "rb")
                except OSError as error:
                    raise EngineError(f"cannot load the image: {archive}: {error.strerror}") from error
                try:
                    answers = await self._docker.images.import_image(file)
                finally:
                    await asyncio.to_thread(file.close)
            else:
                answers = await self._docker.images.import_image(archive)
        lines = [str(answer.get("stream", "")).strip() for answer in answers]
        lines = [line for line in lines if line]
        if not any(line.startswith("Loaded image") for line in lines):
            # aiodocker ends the answer without an error when the connection breaks.
            raise EngineError("cannot load the image: the engine's answer broke off")
        return lines

    async def tag(self, image: str, repo: str, tag: str | None = None) -> None:
        """Give an image another name."""
        with self._asking(f"cannot tag image {image}"):
            await self._docker.images.tag(_reference(image), _reference(repo), tag=tag)

    async def remove_image(self, reference: str, force: bool = False, noprune: bool = False) -> None:
        """Remove a name of an image, and the image with its last name; its untagged parents stay if ``noprune``."""
        with self._asking(f"cannot remove image {reference}"):
            await self._docker.images.delete(_reference(reference), force=force, noprune=noprune)

    # -- the engine itself -----------------------------------------------------------------------------------------

    async def info(self) -> dict[str, Any]:
        """What ``docker info`` prints."""
        with self._asking("cannot ask the Docker engine about itself"):
            return dict(await self._docker.system.info())

    async def version(self) -> dict[str, Any]:
        """What ``docker version`` prints about the server."""
        with self._asking("cannot ask the Docker engine for its version"):
            return await self._docker.version()
