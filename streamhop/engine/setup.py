"""Registers the OCI runtime in Docker, and takes it out again.

What Docker is told of is a small shell script, the *launcher*: a container keeps its runtime for life, and every exec,
stop and restart of it goes through that. The script needs nothing but ``/bin/sh`` and runc, so a container that has
been moved goes on working when Python, or streamhop itself, is upgraded or gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import criu_when_told, runtime
from .docker import Engine, EngineError

DOCKERD_PID_FILE = Path("/var/run/docker.pid")

RELOAD_S_MAX = 10.0

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
_RUN_DIR_LINE = re.compile(r"^run_dir=(.*)$", re.MULTILINE)
_INDENT = re.compile(r"^([ \t]+)\"", re.MULTILINE)

_LAUNCHER = """\
#!/bin/sh
# OCI runtime of streamhop, registered in Docker: runc, except for containers whose restore is pending.
# Written by `streamhop setup`. Containers that were moved here need this file for as long as they exist.
run_dir={run_dir}
for argument; do
    if [ -d "$run_dir/restores/$argument" ] && [ -n "$argument" ]; then
        exec {python} -IS {runtime} --run-dir "$run_dir" -- "$@"
    fi
done
exec "${{STREAMHOP_RUNC:-runc}}" "$@"
"""


class SetupError(Exception):
    """Docker's configuration was not changed, or not taken over; the text says why and what to do."""


# -- the launcher ------------------------------------------------------------------------------------------------------


def launcher_text(run_dir: Path, python: str, runtime_file: Path) -> str:
    """The launcher's script."""
    return _LAUNCHER.format(
        run_dir=shlex.quote(str(run_dir)), python=shlex.quote(python), runtime=shlex.quote(str(runtime_file))
    )


def registered_run_dir(launcher: Path) -> Path | None:
    """The run directory that a launcher looks into; None if it is no launcher.

    A daemon with another run directory must not start restores: the runtime would start the container afresh.
    """
    try:
        text = launcher.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    match = _RUN_DIR_LINE.search(text)
    words = shlex.split(match[1]) if match and "streamhop" in text else []
    return Path(words[0]) if len(words) == 1 else None


def install_stand_in(directory: Path) -> None:
    """Write the launcher of :mod:`.criu_when_told` into ``directory``, which is then put before runc's PATH.

    The directory must be where programs may be run from, which ``/run`` is not on every host.

    :raises OSError: it cannot be written.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    module = str(Path(criu_when_told.__file__).resolve())
    script = criu_when_told.launcher_text(shlex.quote(_python()), shlex.quote(module))
    launcher = directory / criu_when_told.LAUNCHER_NAME
    if not launcher.is_file() or launcher.read_text(encoding="utf-8") != script:
        _write(launcher, script, 0o755)


def _python() -> str:
    """An interpreter that outlives this program's virtual environment."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


# -- Docker's configuration --------------------------------------------------------------------------------------------


def register(daemon_json: Path, name: str, runtime_path: Path, run_dir: Path) -> bool:
    """Write the launcher to ``runtime_path`` and name it in Docker's configuration.

    :returns: whether anything changed. dockerd has to be told: :func:`reload_engine`.
    :raises SetupError: a file cannot be read, understood or written, or the name is taken.
    """
    if not _NAME.fullmatch(name) or name in ("runc", "io.containerd.runc.v2"):
        raise SetupError(f"{name!r} cannot be the name of a runtime")
    if not runtime_path.is_absolute() or not run_dir.is_absolute():
        raise SetupError("the paths of the runtime and of its run directory must be absolute")
    text = _read(daemon_json)
    changed = with_runtime(text, name, str(runtime_path), str(daemon_json))
    script = launcher_text(run_dir, _python(), Path(runtime.__file__).resolve())
    written = False
    try:
        if not runtime_path.is_file() or runtime_path.read_text(encoding="utf-8") != script:
            runtime_path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            _write(runtime_path, script, 0o755)
            written = True
        if changed is not None:
            daemon_json.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            _write(daemon_json, changed, 0o644)
    except OSError as error:
        raise SetupError(f"{error.filename}: {error.strerror}") from error
    return written or changed is not None


def unregister(daemon_json: Path, name: str) -> bool:
    """Take the runtime out of Docker's configuration. The launcher stays: see :func:`containers_of`.

    :returns: whether anything changed.
    :raises SetupError: as :func:`register`.
    """
    changed = without_runtime(_read(daemon_json), name, str(daemon_json))
    if changed is None:
        return False
    try:
        _write(daemon_json, changed, 0o644)
    except OSError as error:
        raise SetupError(f"{error.filename}: {error.strerror}") from error
    return True


def with_runtime(text: str, name: str, path: str, where: str) -> str | None:
    """The configuration with the runtime, None if it is there already.

    :param where: names the file in errors.
    :raises SetupError: it is not a JSON object, or another runtime has that name.
    """
    config = _parse(text, where)
    runtimes = config.setdefault("runtimes", {})
    if not isinstance(runtimes, dict):
        raise SetupError(f'{where}: "runtimes" is not an object; mend it first')
    old = runtimes.get(name)
    if old == {"path": path}:
        return None
    if old is not None and not (isinstance(old, dict) and registered_run_dir(Path(str(old.get("path")))) is not None):
        raise SetupError(f"{where}: there is a runtime {name!r} already; choose another --runtime-name")
    runtimes[name] = {"path": path}
    return _dump(config, text)


def without_runtime(text: str, name: str, where: str) -> str | None:
    """The configuration without the runtime, None if it is not there.

    :raises SetupError: it is not a JSON object, or the runtime is Docker's default.
    """
    config = _parse(text, where)
    runtimes = config.get("runtimes")
    if not isinstance(runtimes, dict) or name not in runtimes:
        return None
    if config.get("default-runtime") == name:
        raise SetupError(f"{where}: {name!r} is the default runtime; change that first")
    # An empty object stays: dockerd takes runtimes over on a reload only if the key is there.
    del runtimes[name]
    return _dump(config, text)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        config = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise SetupError(f"{where} is not valid JSON (line {error.lineno}: {error.msg}); mend it first") from error
    if not isinstance(config, dict):
        raise SetupError(f"{where} is not a JSON object; mend it first")
    return config


def _dump(config: dict[str, Any], like: str) -> str:
    """JSON laid out as ``like`` is: its indentation, or all on one line."""
    match = _INDENT.search(like)
    indent = match[1] if match else None if like.strip() not in ("", "{}") else 2 * " "
    return json.dumps(config, indent=indent, ensure_ascii=False) + "\n"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} cannot be read: {error}") from error


def _write(path: Path, text: str, mode: int) -> None:
    """Replace the file that ``path`` is, or points to, in one step; mode and owner stay as they were."""
    target = path.resolve()
    old = target.stat() if target.exists() else None
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            if old is not None:
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            os.fchmod(file.fileno(), mode if old is None else stat.S_IMODE(old.st_mode) | (mode & 0o111))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


# -- dockerd -----------------------------------------------------------------------------------------------------------


async def containers_of(engine: Engine, name: str) -> list[str]:
    """Names of the containers, running or not, that have the runtime ``name``: they need it for as long as they exist.

    :raises EngineError:
    """
    users = []
    for row in await engine.list_containers(all=True):
        found = await engine.inspect_container(row["Id"])
        if found["HostConfig"].get("Runtime") == name:
            users.append(found["Name"].removeprefix("/"))
    return users


async def reload_engine(engine: Engine, name: str, *, present: bool = True, pid_file: Path = DOCKERD_PID_FILE) -> None:
    """Have dockerd read its configuration again, without a restart, and see what it makes of it.

    :param present: whether it should know the runtime ``name`` afterwards.

    :raises SetupError: dockerd cannot be told, or does not take it over.
    """
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        if "dockerd" not in Path(f"/proc/{pid}/comm").read_text(encoding="utf-8"):
            raise SetupError(f"{pid_file} does not name dockerd's process; restart Docker")
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError) as error:
        raise SetupError(f"dockerd cannot be told to read its configuration ({error}); restart Docker") from error
    try:
        async with asyncio.timeout(RELOAD_S_MAX):
            # Another process's state: there is no event to wait for.
            while (name in (await engine.info())["Runtimes"]) != present:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise SetupError("dockerd did not take the configuration over; look at its log") from None
    except EngineError as error:
        raise SetupError(str(error)) from error
