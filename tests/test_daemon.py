"""What the daemon does before anything else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamhop.config import ConfigError
from streamhop.daemon import held_alone


def test_a_second_daemon_touches_nothing_of_the_first(tmp_path: Path) -> None:
    """P1, P14: it would take the moves of the first for those of a daemon that is gone."""
    state, run = tmp_path / "state", tmp_path / "run"
    for kept in (state / "spool" / "kept", run / "dumps" / "kept", run / "runtime.sock"):
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.touch()
    environment = {**os.environ, "STREAMHOP_STATE_DIR": str(state), "STREAMHOP_RUN_DIR": str(run)}
    with held_alone(state):
        second = subprocess.run(
            [sys.executable, "-c", "from streamhop.cli import main; main()", "daemon", "--listen", "127.0.0.1"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert second.returncode == 1
    assert "another daemon" in second.stderr
    assert not (state / "journal.sqlite").exists()
    assert (state / "spool" / "kept").exists()
    assert (run / "dumps" / "kept").exists()
    assert (run / "runtime.sock").exists()


def test_a_directory_is_free_again_when_its_daemon_is_gone(tmp_path: Path) -> None:
    with held_alone(tmp_path), pytest.raises(ConfigError, match="another daemon"), held_alone(tmp_path):
        pass
    with held_alone(tmp_path):
        pass
