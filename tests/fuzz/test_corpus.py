"""P10: every bad input that is known meets its error, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fuzz.cases.all import CASES
from fuzz.cases.case import Case
from fuzz.target import NAMES, load

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("bad", CASES, ids=str)
def test_a_bad_input_meets_its_error(bad: Case) -> None:
    """P10: and only an error that the decoder may raise."""
    target = load(bad.target)
    if bad.error is None:
        target.run(bad.make())
        return
    assert issubclass(bad.error, target.allowed)
    with pytest.raises(bad.error, match=re.escape(bad.says) or None) as caught:
        target.run(bad.make())
    assert isinstance(caught.value, target.allowed)


@pytest.mark.parametrize("name", NAMES)
def test_valid_inputs_are_harmless(name: str) -> None:
    """P10: what a run begins with is no finding by itself."""
    target = load(name)
    for seed in target.seeds():
        target.survives(seed)


def test_files_are_what_the_cases_say() -> None:
    """Each small case is a file; each file is a case. ``python -m fuzz.cases.all`` writes them."""
    wanted = {f"{each.target}/{each.name}": each.make() for each in CASES if each.kept}
    found = {str(path.relative_to(CORPUS)): path.read_bytes() for path in CORPUS.rglob("*") if path.is_file()}
    assert found == wanted


def test_no_two_cases_share_a_name() -> None:
    """Else one would hide the other."""
    names = [str(each) for each in CASES]
    assert sorted(set(names)) == sorted(names)
