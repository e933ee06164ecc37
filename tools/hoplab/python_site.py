"""Python packages for the hosts' Python, fetched by the machine's pip with whatever it is configured to use."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import LabError

_GLIBC = ("manylinux_2_28", "manylinux2014")


def requirements_path() -> Path:
    """The lock file of the checkout this package is in, or that the environment names.

    :raises LabError: there is none.
    """
    asked = os.environ.get("HOPLAB_REQUIREMENTS")
    path = Path(asked) if asked else checkout() / "requirements.lock"
    if not path.is_file():
        raise LabError(f"{path} is missing; HOPLAB_REQUIREMENTS names another lock file")
    return path


def checkout() -> Path:
    """The checkout this package is in, or the one HOPLAB_CHECKOUT names."""
    asked = os.environ.get("HOPLAB_CHECKOUT")
    return Path(asked) if asked else Path(__file__).resolve().parents[2]


def site_recipe(requirements: str, python_version: str) -> dict[str, Any]:
    """What decides which packages there are."""
    return {"version": 1, "requirements": requirements, "python": python_version, "machine": platform.machine()}


def make_site(target: Path, requirements: Path, python_version: str) -> None:
    """Install the packages of a lock file into ``target``.

    :raises LabError: pip cannot.
    """
    _pip(*_install_for(target, python_version), "--requirement", str(requirements))


def install_packages(target: Path, python_version: str, *, wheels: Sequence[str], sources: Sequence[str]) -> None:
    """Install packages into ``target`` for another Python than this one.

    :param wheels: packages, with what they need, of which there are wheels.
    :param sources: packages of which there is only the source; they are built by this machine's Python, without what
        they need, and must be pure Python and data.
    :raises LabError: pip cannot.
    """
    with tempfile.TemporaryDirectory(prefix="hoplab-wheels-") as built:
        if sources:
            _pip("wheel", "--quiet", "--no-deps", "--wheel-dir", built, *sources)
        made = [str(path) for path in sorted(Path(built).glob("*.whl"))]
        _pip(*_install_for(target, python_version), *wheels, *made)


def _install_for(target: Path, python_version: str) -> list[str]:
    arguments = ["install", "--quiet", "--no-compile", "--target", str(target)]
    arguments += ["--python-version", python_version, "--only-binary=:all:", "--implementation", "cp"]
    for glibc in _GLIBC:
        arguments += ["--platform", f"{glibc}_{platform.machine()}"]
    return arguments


def _pip(*arguments: str) -> None:
    """:raises LabError: it failed."""
    command = [sys.executable, "-m", "pip", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if ended.returncode != 0:
        errors = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
        raise LabError(f"pip cannot fetch Python packages: {' | '.join(errors or ended.stderr.splitlines())[-500:]}")
