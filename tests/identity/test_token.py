"""Pairing tokens: read as they were written, or refused; their secret stays out of what is logged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhop.config import Address
from streamhop.identity.device_id import DeviceId
from streamhop.identity.token import PREFIX, BadTokenError, PairingToken, proof

INVITER, GUEST = DeviceId(b"i" * 32), DeviceId(b"g" * 32)
TOKEN = PairingToken.new(INVITER, (Address("edge-a", 4711), Address("fd00::1", 99)))


def test_what_is_written_is_read_again() -> None:
    assert PairingToken.parse(f" {TOKEN}\n") == TOKEN
    assert PairingToken.new(INVITER, TOKEN.addresses).secret != TOKEN.secret


def test_the_secret_is_not_shown_by_accident() -> None:
    assert str(TOKEN) not in repr(TOKEN)
    assert TOKEN.secret.hex() not in repr(TOKEN)
    assert repr(TOKEN.secret) not in repr(TOKEN)


@given(st.integers(0, len(str(TOKEN)) - 1))
def test_half_a_token_is_noticed(length: int) -> None:
    with pytest.raises(BadTokenError):
        PairingToken.parse(str(TOKEN)[:length])


@given(st.text(max_size=300))
def test_any_text_is_a_token_or_the_error(text: str) -> None:
    for candidate in (text, PREFIX + text):
        with pytest.raises(BadTokenError):
            PairingToken.parse(candidate)


@given(st.binary(max_size=300))
def test_any_content_with_a_fitting_checksum_is_a_token_or_the_error(body: bytes) -> None:
    import base64
    import hashlib

    data = body + hashlib.sha256(body).digest()[:4]
    with pytest.raises(BadTokenError):
        PairingToken.parse(PREFIX + base64.urlsafe_b64encode(data).decode())


def test_a_proof_fits_one_exchange_between_two_devices() -> None:
    right = (TOKEN.secret, "guest", INVITER, GUEST, (b"1" * 32, b"2" * 32))
    others = [
        (b"x" * 16, *right[1:]),
        (right[0], "inviter", *right[2:]),
        (*right[:2], GUEST, INVITER, right[4]),
        (*right[:4], (b"2" * 32, b"1" * 32)),
    ]
    assert proof(*right) not in {proof(*other) for other in others}
