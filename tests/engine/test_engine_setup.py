"""Docker's configuration is changed in one place and nowhere else; the launcher passes calls on."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from streamhop.engine.setup import (
    SetupError,
    launcher_text,
    register,
    registered_run_dir,
    unregister,
    with_runtime,
    without_runtime,
)

RUN_DIR = Path("/run/streamhop")


@pytest.fixture
def daemon_json(tmp_path: Path) -> Path:
    return tmp_path / "docker" / "daemon.json"


def test_registers_where_there_was_no_file(daemon_json: Path, tmp_path: Path) -> None:
    launcher = tmp_path / "lib" / "runtime"
    assert register(daemon_json, "streamhop", launcher, RUN_DIR)
    assert json.loads(daemon_json.read_text()) == {"runtimes": {"streamhop": {"path": str(launcher)}}}
    assert os.access(launcher, os.X_OK)
    assert registered_run_dir(launcher) == RUN_DIR


def test_registering_again_changes_nothing(daemon_json: Path, tmp_path: Path) -> None:
    assert register(daemon_json, "streamhop", tmp_path / "runtime", RUN_DIR)
    before = daemon_json.stat().st_mtime_ns
    assert not register(daemon_json, "streamhop", tmp_path / "runtime", RUN_DIR)
    assert daemon_json.stat().st_mtime_ns == before


def test_another_run_dir_rewrites_the_launcher(daemon_json: Path, tmp_path: Path) -> None:
    register(daemon_json, "streamhop", tmp_path / "runtime", RUN_DIR)
    assert register(daemon_json, "streamhop", tmp_path / "runtime", Path("/run/other dir"))
    assert registered_run_dir(tmp_path / "runtime") == Path("/run/other dir")


@pytest.mark.parametrize("indent", [2, 4, "\t"])
def test_keeps_order_layout_and_everything_else(indent: int | str, tmp_path: Path) -> None:
    before = {"zeta": 1, "runtimes": {"crun": {"path": "/usr/bin/crun"}}, "alpha": ["ä", {"x": None}]}
    text = json.dumps(before, indent=indent, ensure_ascii=False) + "\n"
    added = with_runtime(text, "streamhop", "/lib/runtime", "daemon.json")
    assert added is not None
    assert list(json.loads(added)) == ["zeta", "runtimes", "alpha"]
    assert without_runtime(added, "streamhop", "daemon.json") == text


def test_unregister_leaves_an_empty_table_so_that_dockerd_lets_go(daemon_json: Path, tmp_path: Path) -> None:
    register(daemon_json, "streamhop", tmp_path / "runtime", RUN_DIR)
    assert unregister(daemon_json, "streamhop")
    assert json.loads(daemon_json.read_text()) == {"runtimes": {}}
    assert not unregister(daemon_json, "streamhop")


def test_keeps_mode_and_follows_a_symbolic_link(daemon_json: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    real.write_text('{"debug": true}')
    real.chmod(0o640)
    daemon_json.parent.mkdir()
    daemon_json.symlink_to(real)
    register(daemon_json, "streamhop", tmp_path / "runtime", RUN_DIR)
    assert daemon_json.is_symlink()
    assert json.loads(real.read_text())["debug"] is True
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docker", "real.json", "runtime"]


@pytest.mark.parametrize("text", ["{", "[]", '{"runtimes": []}', "\ufeff{}"])
def test_refuses_what_it_does_not_understand(text: str, daemon_json: Path, tmp_path: Path) -> None:
    daemon_json.parent.mkdir()
    daemon_json.write_text(text)
    with pytest.raises(SetupError, match=r"daemon\.json"):
        register(daemon_json, "streamhop", tmp_path / "runtime", RUN_DIR)
    assert daemon_json.read_text() == text
    assert not (tmp_path / "runtime").exists()


@pytest.mark.parametrize("name", ["runc", "a/b", "", "-x"])
def test_refuses_names(name: str, daemon_json: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError):
        register(daemon_json, name, tmp_path / "runtime", RUN_DIR)


def test_leaves_a_foreign_runtime_of_that_name_alone() -> None:
    with pytest.raises(SetupError, match="already"):
        with_runtime('{"runtimes": {"streamhop": {"path": "/usr/bin/other"}}}', "streamhop", "/lib/runtime", "x")


def test_the_default_runtime_cannot_be_taken_out() -> None:
    text = '{"default-runtime": "streamhop", "runtimes": {"streamhop": {"path": "/x"}}}'
    with pytest.raises(SetupError, match="default"):
        without_runtime(text, "streamhop", "x")


def test_a_file_that_is_no_launcher_has_no_run_dir(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("#!/bin/sh\nexec runc\n")
    assert registered_run_dir(tmp_path / "x") is None
    assert registered_run_dir(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--root", "/r", "state", "idle"], "runc --root /r state idle"),
        (["start", "waiting"], "-IS /pkg/runtime.py --run-dir {run_dir} -- start waiting"),
        (["kill", "waiting", "9"], "-IS /pkg/runtime.py --run-dir {run_dir} -- kill waiting 9"),
        (["exec", "a b", ""], "runc exec a b "),
    ],
)
def test_the_launcher_calls_python_only_for_pending_restores(
    arguments: list[str], expected: str, tmp_path: Path
) -> None:
    (tmp_path / "run dir" / "restores" / "waiting").mkdir(parents=True)
    for name, word in (("runc", "runc "), ("python", "")):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{word}$*"\n')
        (tmp_path / name).chmod(0o755)
    launcher = tmp_path / "launcher"
    launcher.write_text(launcher_text(tmp_path / "run dir", str(tmp_path / "python"), Path("/pkg/runtime.py")))
    launcher.chmod(0o755)
    result = subprocess.run(
        [launcher, *arguments], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    assert result.stdout == expected.format(run_dir=tmp_path / "run dir") + "\n"
