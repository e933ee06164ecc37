"""What the daemon does before anything else."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from streamhop.config import Config, ConfigError
from streamhop.daemon import begin_keylog, held_alone, make_private


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


def test_who_asks_for_a_keylog_is_warned_and_nobody_else_reads_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """P13."""
    before = os.umask(0)
    try:
        make_private(Config(state_dir=tmp_path / "state", run_dir=tmp_path / "run"))
        begin_keylog(tmp_path / "keys")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "LAB ONLY" in record.message
    assert str(tmp_path / "keys") in record.message
    with pytest.raises(ConfigError, match="lab_keylog: cannot write"):
        begin_keylog(tmp_path / "nowhere" / "keys")
