"""Python packages for the hosts' Python, fetched by the machine's pip with whatever it is configured to use."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
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
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(target)]
    command += ["--python-version", python_version, "--only-binary=:all:", "--implementation", "cp"]
    for glibc in _GLIBC:
        command += ["--platform", f"{glibc}_{platform.machine()}"]
    command += ["--requirement", str(requirements)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if ended.returncode != 0:
        errors = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
        raise LabError(
            f"pip cannot fetch the hosts' packages: {' | '.join(errors or ended.stderr.splitlines())[-500:]}"
        )
