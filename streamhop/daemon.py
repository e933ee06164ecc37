"""Composition root: reads the configuration, builds the host and its servers, runs until a signal says stop."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import signal
import sqlite3
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import uvloop

from streamhop.config import Config, ConfigError, load
from streamhop.control.access import Access
from streamhop.control.api import serve_control
from streamhop.control.peering import PeeringApi
from streamhop.engine.docker import Engine, EngineError
from streamhop.engine.restores import RestoreServer
from streamhop.engine.setup import SetupError, containers_of, install_stand_in, register, reload_engine, unregister
from streamhop.handover.failures import first_failure, plain
from streamhop.handover.host import Host, kept_content
from streamhop.handover.journal import Journal
from streamhop.handover.moves import Moves
from streamhop.handover.settling import recover
from streamhop.handover.target_policy import check_policies, policies_for_nobody
from streamhop.heap import reuse_memory
from streamhop.identity import IdentityError, PeerBook, PeerBookError, load_or_create, pinned_peers
from streamhop.net import Listener, NetConfig, WireTrace, serve
from streamhop.peering import Pairing, PeerDirectory, is_loopback, reachable_addresses
from streamhop.telemetry.logs import log_to
from streamhop.telemetry.trace import traced_to

log = logging.getLogger("streamhop")

_HOPELESS = (ConfigError, EngineError, IdentityError, PeerBookError, OSError, sqlite3.Error)
"""Without Docker, a port, a socket or a journal there is nothing to serve."""


def _fail(reason: str) -> NoReturn:
    print(f"streamhop: {reason}", file=sys.stderr)
    sys.exit(1)


def main(config_path: Path | None, flags: Mapping[str, str | None]) -> None:
    """Run the daemon in the foreground until SIGINT or SIGTERM; exits with 1 and one line if it cannot."""
    log_to(sys.stderr)
    reuse_memory()
    try:
        config = load(config_path, os.environ, flags)
        uvloop.run(_run(config))
    except _HOPELESS as error:
        _fail(str(error))
    except BaseExceptionGroup as group:
        failure = first_failure(group)
        if not isinstance(failure, _HOPELESS):
            raise
        _fail(str(failure))


async def _run(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    access = Access.from_config(config)
    make_private(config)
    if config.lab_keylog is not None:
        begin_keylog(config.lab_keylog)
    async with AsyncExitStack() as stack:
        for directory in {config.state_dir.resolve(), config.run_dir.resolve()}:
            stack.enter_context(held_alone(directory))
        journal = Journal(config.state_dir / "journal.sqlite")
        stack.callback(journal.close)
        engine = await stack.enter_async_context(Engine())
        restores = await stack.enter_async_context(RestoreServer(config.run_dir))
        check_policies(config)
        identity = None if config.plaintext else load_or_create(config.state_dir / "identity")
        book = PeerBook(config.state_dir / "peers", pinned_peers(config), config.name)
        trace = stack.enter_context(traced_to(config.trace, config.name))
        wire_trace = None if trace is None else WireTrace(trace)
        peers = PeerDirectory(config, identity, book, wire_trace)
        for name in policies_for_nobody(config, {*config.peers, *(peer.name for peer in peers.book)}):
            log.warning("[policy.%s] is nobody's: no peer is called so here", name)
        host = Host(config, engine, journal, restores, peers, kept_content(config), trace=trace)
        install_stand_in(host.launchers)
        unsettled = await recover(host)
        _remove_stray_files(config)
        async with asyncio.TaskGroup() as tasks:
            moves = Moves(host, tasks)
            for record in unsettled:
                moves.settle(record.move, record.role)
            listen = config.listen
            pairing = None
            if identity is not None:
                addresses = reachable_addresses(config.name, listen, listen.port)
                pairing = Pairing(peers, identity, config.name, addresses)
            peering = PeeringApi(config.name, peers, pairing)
            listener = await _listen(config, moves, peers, pairing, wire_trace)
            peers.on_unpaired = listener.end_sessions_of
            upkeep = [tasks.create_task(moves.expire_kept()), tasks.create_task(moves.forward())]
            async with listener, serve_control(moves, access, peering):
                if identity is not None:
                    log.info("this device is %s", identity.id)
                elif not is_loopback(listen.host):
                    log.warning("%s: peers are neither authenticated nor encrypted; trust the link", listen)
                log.info("%s listens on %s, control on %s", config.name, listen, config.control_socket)
                await stop.wait()
                log.info("stopping")
                for task in upkeep:
                    task.cancel()
                moves.stop()


def make_private(config: Config) -> None:
    """Shut what holds memory and files of containers to everybody else: all that this process makes from now on.

    Directories that are there already are left as they are: they may be others', and the doors below them are shut.

    :raises OSError: the directories cannot be made.
    """
    os.umask(0o077)
    for directory in (config.state_dir, config.run_dir):
        directory.mkdir(parents=True, exist_ok=True)


def begin_keylog(path: Path) -> None:
    """See that the secrets of sessions can be added to ``path``, and that nobody forgets that they are.

    :raises ConfigError: they cannot, or somebody else could read them there.
    """
    try:
        # Without waiting for a reader, should it be a FIFO.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            there = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"lab_keylog: cannot write to {path}: {plain(error)}") from error
    if not stat.S_ISREG(there.st_mode):
        raise ConfigError(f"lab_keylog: {path} is no regular file")
    if there.st_uid != os.geteuid() or there.st_mode & 0o077:
        # One that was made before keeps its owner and mode, whatever the umask is.
        raise ConfigError(f"lab_keylog: others may read {path}: remove it, or make it this user's with mode 0600")
    log.warning(
        "LAB ONLY: the secrets of all sessions go to %s. Whoever reads that file reads the memory of every container "
        "that moves. Take lab_keylog out of the configuration, and remove the file, unless this is a lab",
        path,
    )


@contextmanager
def held_alone(directory: Path) -> Iterator[None]:
    """Keep every other daemon out of ``directory`` while the context is open.

    Before anything else: a second daemon would take the moves of the first for those of one that is gone.

    :raises ConfigError: another daemon has it.
    :raises OSError: the lock cannot be made.
    """
    with (directory / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another daemon runs already and uses {directory}") from None
        yield


async def _listen(
    config: Config, moves: Moves, peers: PeerDirectory, pairing: Pairing | None, trace: WireTrace | None
) -> Listener:
    host, port = config.listen.host, config.listen.port
    security = peers.listening()
    if security is not None and pairing is not None:
        security = replace(security, guests=lambda: pairing.serve if pairing.inviting else None)
    network = NetConfig(connections=config.connections, trace=trace)
    try:
        return await serve(host, port, network, name=config.name, on_session=moves.on_session, security=security)
    except OSError as error:
        raise ConfigError(f"cannot listen on {config.listen}: {plain(error)}") from error


def _remove_stray_files(config: Config) -> None:
    """After recovery nothing in the spool or among the dumps belongs to a move that can go on."""
    for directory in (config.state_dir / "spool", config.run_dir / "dumps"):
        shutil.rmtree(directory, ignore_errors=True)


def setup(daemon_json: Path, runtime_name: str, *, remove: bool) -> None:
    """Register the OCI runtime in Docker's configuration, or take it out, and have dockerd read it again.

    Prints what was done; exits with 1 and one line if it cannot be done.
    """
    try:
        config = load(None, os.environ, {"runtime_name": runtime_name})
        done = asyncio.run((_unregister if remove else _register)(config, daemon_json))
    except (ConfigError, EngineError, SetupError) as error:
        _fail(str(error))
    print(done)


async def _register(config: Config, daemon_json: Path) -> str:
    name, launcher = config.runtime_name, config.state_dir / "streamhop-runtime"
    changed = register(daemon_json, name, launcher, config.run_dir)
    async with Engine() as engine:
        await reload_engine(engine, name)
    return f"Docker knows the runtime {name!r} {'now' if changed else 'already'} ({daemon_json}, {launcher})"


async def _unregister(config: Config, daemon_json: Path) -> str:
    name = config.runtime_name
    async with Engine() as engine:
        depend = await containers_of(engine, name)
        if depend:
            raise SetupError(
                f"these containers were moved here and need the runtime {name!r}: {', '.join(depend)}; "
                "remove or move them first"
            )
        changed = unregister(daemon_json, name)
        await reload_engine(engine, name, present=False)
    return f"the runtime {name!r} {'is no longer' if changed else 'was not'} in {daemon_json}"
