"""Runs one target under atheris: ``python -m fuzz.one TARGET [options of libFuzzer and directories of inputs]``."""

from __future__ import annotations

import logging
import sys

import atheris

INSTRUMENTED = ["streamhop", "streamhop_protocol"]


def main() -> None:
    """Fuzz until libFuzzer's options say stop; the process ends here."""
    name = sys.argv.pop(1)
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=INSTRUMENTED):
        from fuzz.target import load

        target = load(name)
    atheris.Setup(sys.argv, target.survives)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
