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


def test_a_keylog_that_others_may_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P13: a file that is there keeps its mode."""
    keys = tmp_path / "keys"
    keys.touch()
    for mode in (0o644, 0o640, 0o606):
        keys.chmod(mode)
        with pytest.raises(ConfigError, match="others may read"):
            begin_keylog(keys)
    keys.chmod(0o600)
    begin_keylog(keys)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match="others may read"):
        begin_keylog(keys)


def test_a_keylog_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    """P13: a link in a directory that others may write, too, such as /tmp."""
    (tmp_path / "theirs").touch(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("link", "fifo"):
        with pytest.raises(ConfigError, match="lab_keylog: "):
            begin_keylog(tmp_path / name)
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(ConfigError, match="no regular file"):
            begin_keylog(tmp_path / "fifo")
    finally:
        os.close(reader)
