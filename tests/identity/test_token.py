"""Pairing tokens: read as they were written, or refused; their secret stays out of what is logged."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhop.config import Address
from streamhop.identity.device_id import DeviceId
from streamhop.identity.token import PREFIX, BadTokenError, PairingToken, proof
from streamhop_protocol.errors import ProtocolError

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
    data = body + hashlib.sha256(body).digest()[:4]
    with pytest.raises(BadTokenError):
        PairingToken.parse(PREFIX + base64.urlsafe_b64encode(data).decode())


@pytest.mark.parametrize(
    "body",
    [b"\x91" * 40 + b"\xc0", b"\x82\xa1a\x01\xa1a\x02", b"\xc7\x00\x05", b"\x81\x01\x02", b"\xd6\xff" + bytes(4)],
)
def test_a_token_is_read_as_strictly_as_a_frame(body: bytes) -> None:
    """P10: nesting, keys that come twice or are numbers, extension types."""
    token = PREFIX + base64.urlsafe_b64encode(body + hashlib.sha256(body).digest()[:4]).decode()
    with pytest.raises(BadTokenError) as caught:
        PairingToken.parse(token)
    assert isinstance(caught.value.__cause__, ProtocolError)


def test_a_proof_fits_one_exchange_between_two_devices() -> None:
    right = (TOKEN.secret, "guest", INVITER, GUEST, (b"1" * 32, b"2" * 32))
    others = [
        (b"x" * 16, *right[1:]),
        (right[0], "inviter", *right[2:]),
        (*right[:2], GUEST, INVITER, right[4]),
        (*right[:4], (b"2" * 32, b"1" * 32)),
    ]
    assert proof(*right) not in {proof(*other) for other in others}
