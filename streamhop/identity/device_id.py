"""Device IDs: the SHA-256 of a daemon's certificate in a form that people can read out and compare.

52 letters and digits (base32 of RFC 4648 without padding) in four parts of 13, each followed by a check digit, shown in
eight groups of seven. The check digit is Luhn's algorithm over the base32 alphabet. Source of the form: Syncthing's
specification of device IDs, whose IDs read alike.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Self

FINGERPRINT_BYTES = 32

SHORT_CHARACTERS = 7
"""Of the short form; people may write as many of an ID, or more, instead of all of it."""

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PART = 13
_PARTS = 4
_TEXT_MAX = 128
_LOOKALIKES = str.maketrans({"0": "O", "1": "I", "8": "B", "-": None, " ": None})


class BadDeviceIdError(ValueError):
    """The text is no device ID; it says why."""


@dataclass(frozen=True, slots=True, order=True)
class DeviceId:
    """A device's ID.

    :param fingerprint: SHA-256 of the DER form of the certificate, 32 bytes.
    """

    fingerprint: bytes

    def __post_init__(self) -> None:
        if len(self.fingerprint) != FINGERPRINT_BYTES:
            raise BadDeviceIdError(f"a fingerprint has {FINGERPRINT_BYTES} bytes, not {len(self.fingerprint)}")

    @classmethod
    def of_certificate(cls, der: bytes) -> Self:
        """The ID of the device that has the certificate ``der``."""
        return cls(hashlib.sha256(der).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an ID as people write it: any case, with or without dashes, ``0``, ``1``, ``8`` for ``O``, ``I``, ``B``.

        :raises BadDeviceIdError: a character too many or too few, or a check digit does not fit.
        """
        if len(text) > _TEXT_MAX:
            raise BadDeviceIdError("too long for a device ID")
        plain = text.strip().upper().translate(_LOOKALIKES)
        if len(plain) != _PARTS * (_PART + 1):
            raise BadDeviceIdError(f"a device ID has {_PARTS * (_PART + 1)} letters and digits, this one {len(plain)}")
        if wrong := sorted(set(plain) - set(_ALPHABET)):
            raise BadDeviceIdError(f"{wrong[0]!r} does not occur in device IDs")
        body = ""
        for start in range(0, len(plain), _PART + 1):
            part, check = plain[start : start + _PART], plain[start + _PART]
            if _check_digit(part) != check:
                raise BadDeviceIdError(f"mistyped: the check digit of {_grouped(part + check)} does not fit")
            body += part
        try:
            fingerprint = base64.b32decode(body + "====")
        except binascii.Error as error:
            raise BadDeviceIdError("no device ID: its last character carries bits that are not there") from error
        found = cls(fingerprint)
        if str(found).replace("-", "") != plain:
            raise BadDeviceIdError("no device ID: its last character carries bits that are not there")
        return found

    def __str__(self) -> str:
        """All of it, in groups."""
        body = base64.b32encode(self.fingerprint).decode().rstrip("=")
        parts = (body[start : start + _PART] for start in range(0, len(body), _PART))
        return _grouped("".join(part + _check_digit(part) for part in parts))

    @property
    def short(self) -> str:
        """The first group: enough to tell a few hosts apart, not to trust one."""
        return str(self)[:SHORT_CHARACTERS]


def _grouped(text: str) -> str:
    return "-".join(text[start : start + SHORT_CHARACTERS] for start in range(0, len(text), SHORT_CHARACTERS))


def _check_digit(part: str) -> str:
    factor, total = 1, 0
    for character in part:
        addend = factor * _ALPHABET.index(character)
        factor = 3 - factor
        total += addend // len(_ALPHABET) + addend % len(_ALPHABET)
    return _ALPHABET[-total % len(_ALPHABET)]
