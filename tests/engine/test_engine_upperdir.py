"""The writable layer is found in the mount table."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamhop.engine.upperdir import UpperdirError, upperdir_in

ROOT = "222 66 0:74 / / rw,relatime - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir={upper},workdir=/w\n"
OTHERS = "224 222 0:83 / /proc rw,nosuid shared:1 - proc proc rw\n225 222 0:84 / /dev rw - tmpfs tmpfs rw,size=65536k\n"


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/var/lib/docker/overlay2/ab/diff", "/var/lib/docker/overlay2/ab/diff"),
        ("/my\\040disk/diff", "/my disk/diff"),
        ("/a\\134\\054b/diff", "/a,b/diff"),
        ("/gr\\303\\274n/diff", "/gr\udcc3\udcbcn/diff"),
    ],
)
def test_finds_it_and_undoes_the_escapes(written: str, path: str) -> None:
    assert upperdir_in(OTHERS + ROOT.format(upper=written)) == Path(path)


def test_the_last_mount_on_the_root_counts() -> None:
    assert upperdir_in(ROOT.format(upper="/old") + OTHERS + ROOT.format(upper="/new")) == Path("/new")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OTHERS, "no root"),
        ("", "no root"),
        ("1 1 8:1 / / rw - ext4 /dev/sda rw\n", "is ext4"),
        ("1 1 0:74 / / ro - overlay overlay ro,lowerdir=/a:/b\n", "no writable layer"),
        ("garbage\n - \n", "no root"),
    ],
)
def test_says_why_there_is_none(text: str, reason: str) -> None:
    with pytest.raises(UpperdirError, match=reason):
        upperdir_in(text)
