"""A daemon's identity is made once, kept, and guarded."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamhop.identity import fingerprint_of_pem, load_or_create
from streamhop.identity.certificate import IdentityError


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    first = load_or_create(tmp_path / "identity")
    assert load_or_create(tmp_path / "identity") == first
    assert first.key.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o700
    assert fingerprint_of_pem(first.certificate.read_text(), "there") == first.id
    assert load_or_create(tmp_path / "other").id != first.id
    assert sorted(path.name for path in (tmp_path / "identity").iterdir()) == ["certificate.pem", "key.pem"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path).key.chmod(0o640)
    with pytest.raises(IdentityError, match="open to others"):
        load_or_create(tmp_path)


@pytest.mark.parametrize("missing", ["key.pem", "certificate.pem"])
def test_half_an_identity_is_not_replaced(tmp_path: Path, missing: str) -> None:
    load_or_create(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(IdentityError):
        load_or_create(tmp_path)
    assert not (tmp_path / missing).exists()


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    mine, other = load_or_create(tmp_path / "mine"), load_or_create(tmp_path / "other")
    mine.key.write_bytes(other.key.read_bytes())
    with pytest.raises(IdentityError):
        load_or_create(tmp_path / "mine")


@pytest.mark.parametrize(
    "text", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x" * 20000]
)
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(IdentityError, match=r"^the file: "):
        fingerprint_of_pem(text, "the file")


def test_one_certificate_is_one(tmp_path: Path) -> None:
    text = load_or_create(tmp_path).certificate.read_text()
    with pytest.raises(IdentityError, match="2 certificates"):
        fingerprint_of_pem(text + text, "the file")
