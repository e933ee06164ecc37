"""runc's state file."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamhop.engine.runc_state import RuncStateError, descriptors


def test_what_the_first_process_was_given(tmp_path: Path) -> None:
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc/state.json").write_text(
        '{"id": "abc", "external_descriptors": ["/dev/null", "pipe:[1]", "pipe:[2]"]}'
    )
    assert descriptors(tmp_path, "abc") == ["/dev/null", "pipe:[1]", "pipe:[2]"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"external_descriptors": null}', '{"external_descriptors": [1]}'])
def test_what_runc_does_not_write(tmp_path: Path, content: str) -> None:
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc/state.json").write_text(content)
    with pytest.raises(RuncStateError, match="not what runc writes"):
        descriptors(tmp_path, "abc")


def test_no_state(tmp_path: Path) -> None:
    with pytest.raises(RuncStateError, match="No such file"):
        descriptors(tmp_path, "abc")
