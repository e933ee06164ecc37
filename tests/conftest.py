"""What all tests share: the lab's fixtures, and a plain word where a test cannot run."""

from __future__ import annotations

import os
import signal

import pytest

pytest_plugins = ["support.lab_fixtures"]


def pytest_configure() -> None:
    """Heed SIGINT: what a shell starts in the background, and so all that it starts, ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need root, where there is none; as root nothing is skipped."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root") or item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.skip(reason="needs root: run the tests as root"))
