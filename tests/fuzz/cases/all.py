"""All cases. Run as a program (``PYTHONPATH=tests python -m fuzz.cases.all``) it writes the small ones as files."""

from __future__ import annotations

import shutil
from pathlib import Path

from fuzz.cases import addresses, archives, found, pages, session

CASES = [*session.CASES, *pages.CASES, *archives.CASES, *found.CASES, *addresses.CASES]
CORPUS = Path(__file__).parents[1] / "corpus"


def main() -> None:
    """Write the corpus anew."""
    shutil.rmtree(CORPUS, ignore_errors=True)
    for each in CASES:
        if each.kept:
            path = CORPUS / each.target / each.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(each.make())


if __name__ == "__main__":
    main()
