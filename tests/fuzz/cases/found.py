"""What fuzzing, and reading with it in mind, has found: each was an error of another kind, a hang, or harm done."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import msgpack

from fuzz.cases.case import Case, case
from fuzz.targets.containers import container, manifest
from fuzz.targets.memory import HUGE, PAGE, image_case, mm_image
from fuzz.targets.peers import framed, guest_says, pem_of
from streamhop.content.memory.criu_pagemap import PRESENT, PagemapEntry, encode_pagemap
from streamhop.identity import BadTokenError, IdentityError, PeerBookError
from streamhop.peering import PairingError
from streamhop_protocol.errors import LimitError, MalformedError
from streamhop_protocol.page_batches import RAW, PageRun, encode_meta
from streamhop_protocol.wirepack import pack

OPENSSL_REFUSES = base64.b64decode(
    "MIIBUDCB+KADAgECAhQTHZylBkQA/VRuHAU+FgNsIP8gqjAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlzdHJlYW1ob3AwIBcNMjAw"
    "MTAxMDAwMDAwWhgPOTk5OTEyMzEwMDAwMDBaMBQxEjAQBgNVBAMMCXN0cmVh7WhvcDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA"
    "BHNPPiM3+a0QO0kUh+1AWyXsF7u/HEmueZ7ANabeAlok9gdvZmgzEg11VbMsLZJe68pUkFvAboZ3GiiYE8VYRyujJjAkMAwGA1Ud"
    "EwEB/wQCMAAwFAYDVR0RBA0wC4IJc3RyZWFtaG9wMAoGCCqGSM49BAMCA0cAMEQCIAsdS28t4dEWjupPRU4gFc/BOb61sUFjfm5d"
    "ulnJ8ZRzAiAzb7n2PjnJbGhPpFWArjwy7oF/sqNx3ZfT2y3CArvvqg=="
)
"""A certificate with a changed bit, which one library reads and the other does not."""

_VERSION = b"\xa0\x03\x02\x01\x02"
OF_VERSION_8 = OPENSSL_REFUSES.replace(_VERSION, b"\xa0\x03\x02\x01\x07")

_DEEP = b"\x91" * 1000 + b"\x90"
"""Lists within lists, deeper than Python prints."""


def identities() -> Iterator[Case]:
    """Certificates, tokens, introductions."""
    yield case(
        "certificate", "one-library-reads-it-the-other-does-not", OPENSSL_REFUSES, IdentityError, "TLS cannot use"
    )
    yield case("certificate", "of-version-8", OF_VERSION_8, IdentityError, "not a certificate")
    yield case("certificate", "none", b"-----BEGIN CERTIFICATE-----\n", IdentityError, "not a certificate")
    # Kept in the peer book it kept the daemon from starting ever after; the target checks that it still starts.
    yield case(
        "pairing_inviter", "certificate-that-tls-cannot-use", guest_says(certificate=pem_of(OPENSSL_REFUSES)), None
    )
    yield case("pairing_inviter", "certificate-of-version-8", guest_says(certificate=pem_of(OF_VERSION_8)), None)
    deep = b"\x84\xa4name\xa1a\xabcertificate\xa1c\xa5proof\xc4\x00\xa9addresses\x91" + _DEEP
    hello = framed({"nonce": b"n" * 32})
    yield case("pairing_inviter", "addresses-nested-deep", hello + len(deep).to_bytes(4, "big") + deep, None)
    refusal = b"\x81\xa5error" + _DEEP
    yield case(
        "pairing_guest", "refusal-nested-deep", hello + len(refusal).to_bytes(4, "big") + refusal,
        PairingError, "cannot be read",
    )  # fmt: skip
    yield case(
        "pairing_guest", "refusal-that-clears-the-screen", hello + framed({"error": "\x1b[2J"}), PairingError, "?[2J"
    )
    yield case("pairing_guest", "message-of-4-gib", b"\xff\xff\xff\xff", PairingError, "a message of")
    yield case("pairing_guest", "nothing", b"", EOFError)
    # A name that the resolver's codec refuses was an error of its own wherever the peer was dialed.
    nameless = {"name": "b", "addresses": ["a..b:1"], "proof": bytes(32)}
    yield case("pairing_guest", "address-that-is-none", hello + framed(nameless), PairingError, "neither a name")
    token = b"\x93\xc4\x20" + bytes(32) + b"\x91" + _DEEP + b"\xc4\x10" + bytes(16)
    yield case("token", "addresses-nested-deep", token, BadTokenError, "nested deeper")
    fields = [bytes(32), ["\u00e9" * 100], bytes(16)]
    yield case("token", "address-that-is-none", msgpack.packb(fields), BadTokenError, "neither a name")
    yield case("peer_file", "nested-deep", b'{"addresses":' + b"[" * 5000, PeerBookError, "damaged")
    yield case("peer_file", "empty", b"", PeerBookError, "damaged")


def manifests() -> Iterator[Case]:
    """Fields that are looked at only after the manifest was taken."""
    yield case("manifest", "version-in-other-digits", pack(manifest(versions={"criu": "4.\u00b2"})), None)
    for name, address in (("name", "edge.example"), ("bad-name", "\u00e9" * 100), ("zone", "fe80::1%\u00e9")):
        ports = {"80/tcp": [{"HostIp": address, "HostPort": "8080"}]}
        yield case(
            "container", f"port-on-a-{name}", pack(container(PortBindings=ports)), MalformedError, "no IP address"
        )


def images() -> Iterator[Case]:
    """Mappings that end before they begin gave pieces of less than no pages."""
    yield case("mm", "ends-before-it-begins", mm_image((0x5000, 0x1000, HUGE)), MalformedError, "mapping from")
    yield case("mm", "empty-mapping", mm_image((0x5000, 0x5000, HUGE)), MalformedError, "mapping from")
    yield case(
        "mm", "overlap", mm_image((0x1000, 0x5000, HUGE), (0x4000, 0x6000, HUGE)), MalformedError, "mapping from"
    )
    yield case("mm", "unaligned", mm_image((0x1001, 0x5000, HUGE)), MalformedError, "mapping from")
    held: list[list[object]] = [[encode_meta("pagemap-1", [PageRun(16, 3, RAW)]), 3]]
    files = {
        "pagemap-1.img": encode_pagemap(1, [PagemapEntry(16, 3, PRESENT)], PAGE),
        "mm-1.img": mm_image((18 * PAGE, 17 * PAGE, HUGE)),
    }
    yield case(
        "page_image", "mapping-that-ends-before-it-begins", image_case(held, files), MalformedError, "mapping from"
    )


def findings() -> Iterator[Case]:
    """What a target says of a container that would come."""
    good = {"id": "a.b", "severity": "warns", "what": "x", "why": "", "reference": "", "fix": ""}
    for name, value, error, says in (
        ("a-map", {}, MalformedError, "must be a list"),
        ("of-nothing", [None], MalformedError, "not a map"),
        ("too-many", [good] * 65, LimitError, "at most 64"),
        ("id-with-a-line-break", [good | {"id": "a\n"}], MalformedError, "id is not one"),
        ("id-that-steers-a-terminal", [good | {"id": "\x1b[2J"}], MalformedError, "id is not one"),
        ("severity-of-its-own", [good | {"severity": "kills"}], MalformedError, "neither refuses nor warns"),
        ("severity-is-a-list", [good | {"severity": []}], MalformedError, "neither refuses nor warns"),
        ("text-is-bytes", [good | {"fix": b"x"}], MalformedError, "lacks a text"),
        ("text-too-long", [good | {"why": "x" * 1025}], LimitError, "more than 1024"),
    ):
        yield case("findings", name, pack(value), error, says)
    for name, cpu, error, says in (
        ("cpu-is-a-text", "avx", MalformedError, "must be a list"),
        ("cpu-with-too-many", ["a"] * 1025, LimitError, "at most 1024"),
        ("cpu-with-a-number", [7], MalformedError, "names of features"),
        ("cpu-that-steers-a-terminal", ["\x1b[2J"], MalformedError, "names of features"),
    ):
        yield case("manifest", name, pack(manifest(cpu=cpu)), error, says)


CASES = [*identities(), *manifests(), *images(), *findings()]
