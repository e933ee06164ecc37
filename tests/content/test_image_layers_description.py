"""An image's description: there and back, and everything that a peer could say wrong about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from image_layers_support import SampleImage, config_of, digest, layer_tar

from streamhop.content.image_layers import ImageDescription
from streamhop.content.image_layers.description import NAMES_MAX, chain_ids
from streamhop.content.image_layers.documents import (
    DOCUMENTS_BYTES_MAX,
    LAYER_BYTES_MAX,
    LAYERS_MAX,
    build_index,
    build_manifest,
    media_type_of,
)
from streamhop.content.image_layers.references import split_name
from streamhop_protocol.errors import LimitError, MalformedError, ProtocolError

LAYERS = [layer_tar("base", b"1" * 2000), layer_tar("app", b"2"), layer_tar("conf", b"3")]
SAMPLE = SampleImage(LAYERS, names=("web:1", "registry.example:5000/team/web:1.2"))
OTHER = "sha256:" + "0" * 64


def wire(image: ImageDescription | None = None) -> dict[str, Any]:
    """A good description, to spoil."""
    return (image or SAMPLE.classic()).to_wire()


@pytest.mark.parametrize(
    "image", [SAMPLE.classic(), SAMPLE.containerd(), SAMPLE.containerd(indexed=True)], ids=lambda image: image.store
)
def test_there_and_back(image: ImageDescription) -> None:
    assert ImageDescription.from_wire(image.to_wire()) == image
    assert image.diff_ids == tuple(digest(layer) for layer in LAYERS)
    assert image.config_digest == digest(SAMPLE.config)


def test_an_image_without_layers_and_one_with_a_layer_twice_travel() -> None:
    for layers in ([], [LAYERS[0], LAYERS[1], LAYERS[0]]):
        image = SampleImage(layers).classic()
        assert ImageDescription.from_wire(image.to_wire()) == image


@pytest.mark.parametrize(
    "value",
    [
        OTHER[:-1],
        OTHER + "0",
        OTHER[7:],
        OTHER + "\n",
        "sha256:" + "g" * 64,
        "sha256:" + "A" * 64,
        "sha512:" + "0" * 128,
        "sha256:../" + "0" * 61,
        "sha256:\0" + "0" * 63,
        "s" * 10_000,
        "",
        None,
        7,
        b"sha256:" + b"0" * 64,
        [OTHER],
    ],
    ids=lambda value: repr(value)[:30],
)
def test_digests_that_are_none_are_refused(value: object) -> None:
    spoilt = wire() | {"id": value}
    with pytest.raises(MalformedError):
        ImageDescription.from_wire(spoilt)
    for field in ("digest", "diff_id"):
        spoilt = wire()
        spoilt["layers"][1][field] = value
        with pytest.raises(MalformedError):
            ImageDescription.from_wire(spoilt)


@pytest.mark.parametrize(
    ("size", "error"),
    [
        *((value, MalformedError) for value in (-1, True, 1.0, "1", None)),
        *((value, LimitError) for value in (LAYER_BYTES_MAX + 1, 1 << 63, 1 << 200)),
    ],
)
def test_sizes_that_are_none_are_refused(size: object, error: type[ProtocolError]) -> None:
    spoilt = wire()
    spoilt["layers"][0]["size"] = size
    with pytest.raises(error):
        ImageDescription.from_wire(spoilt)


@pytest.mark.parametrize("field", ["id", "store", "names", "layers", "config", "manifest", "index"])
@pytest.mark.parametrize("value", [None, 0, 1.5, True, "x", b"\xff", [], {}, [[]], [None], {"a": 1}], ids=repr)
def test_fields_of_another_kind_are_refused(field: str, value: object) -> None:
    spoilt = wire() | {field: value}
    if (field, value) == ("names", []):
        assert ImageDescription.from_wire(spoilt).names == ()
        return
    with pytest.raises(ProtocolError):
        ImageDescription.from_wire(spoilt)
    del spoilt[field]
    with pytest.raises(ProtocolError):
        ImageDescription.from_wire(spoilt)


@pytest.mark.parametrize("value", [None, [], "x", b"x", 1])
def test_what_is_no_map_is_refused(value: object) -> None:
    with pytest.raises(MalformedError):
        ImageDescription.from_wire(value)


def test_100000_layers_are_refused() -> None:
    with pytest.raises(LimitError):
        ImageDescription.from_wire(wire() | {"layers": wire()["layers"] * 33_334})
    with pytest.raises(LimitError):
        ImageDescription.from_wire(wire() | {"config": config_of([b""] * (LAYERS_MAX + 1))})


def test_100000_names_are_refused() -> None:
    with pytest.raises(LimitError):
        ImageDescription.from_wire(wire() | {"names": ["web:1"] * 100_000})
    names = [f"web:{number}" for number in range(NAMES_MAX)]
    assert len(ImageDescription.from_wire(wire() | {"names": names}).names) == NAMES_MAX


def test_a_layer_twice_with_another_size_or_diff_id_is_refused() -> None:
    for field, value in (("size", 5), ("diff_id", OTHER)):
        spoilt = wire(SampleImage([LAYERS[0], LAYERS[0]]).classic())
        spoilt["layers"][1][field] = value
        with pytest.raises(MalformedError, match="occurs twice"):
            ImageDescription.from_wire(spoilt)


def _swap(value: dict[str, Any]) -> None:
    value["layers"][0], value["layers"][1] = value["layers"][1], value["layers"][0]


def _other_diff_id(value: dict[str, Any]) -> None:
    value["layers"][0]["diff_id"] = OTHER


def _other_digest(value: dict[str, Any]) -> None:
    value["layers"][0]["digest"] = OTHER


def _drop_layer(value: dict[str, Any]) -> None:
    del value["layers"][-1]


def _add_layer(value: dict[str, Any]) -> None:
    value["layers"].append({"digest": OTHER, "diff_id": OTHER, "size": 1})


def _other_id(value: dict[str, Any]) -> None:
    value["id"] = OTHER


def _other_config(value: dict[str, Any]) -> None:
    value["config"] = config_of(LAYERS, author="somebody else")


@pytest.mark.parametrize(
    "spoil", [_swap, _other_diff_id, _other_digest, _drop_layer, _add_layer, _other_id, _other_config]
)
@pytest.mark.parametrize(
    "image", [SAMPLE.classic(), SAMPLE.containerd(), SAMPLE.containerd(indexed=True)], ids=["classic", "cd", "index"]
)
def test_parts_that_contradict_each_other_are_refused(
    image: ImageDescription, spoil: Callable[[dict[str, Any]], None]
) -> None:
    spoilt = wire(image)
    spoil(spoilt)
    with pytest.raises(MalformedError):
        ImageDescription.from_wire(spoilt)


def test_sizes_of_a_manifest_bind_those_of_the_description() -> None:
    spoilt = wire(SAMPLE.containerd())
    spoilt["layers"][0]["size"] += 1
    with pytest.raises(MalformedError, match="manifest"):
        ImageDescription.from_wire(spoilt)


def test_an_index_that_lacks_the_manifest_is_refused() -> None:
    other = build_index(media_type_of(SAMPLE.manifest, ""), b"{}")
    with pytest.raises(MalformedError, match="index"):
        ImageDescription.from_wire(wire(SAMPLE.containerd()) | {"index": other, "id": digest(other)})


def test_a_classic_store_has_no_manifest() -> None:
    for field in ("manifest", "index"):
        with pytest.raises(MalformedError):
            ImageDescription.from_wire(wire() | {field: SAMPLE.manifest})


def test_the_store_is_one_of_two() -> None:
    for store in ("Classic", "overlay2", ""):
        with pytest.raises(MalformedError):
            ImageDescription.from_wire(wire() | {"store": store})


def _classic_of(config: bytes) -> dict[str, Any]:
    return wire() | {"config": config, "id": digest(config)}


def test_documents_over_their_limit_are_refused_before_they_are_parsed() -> None:
    padded = config_of(LAYERS, comment="x" * DOCUMENTS_BYTES_MAX)
    with pytest.raises(LimitError):
        ImageDescription.from_wire(_classic_of(padded))
    # Each within the limit, all together not.
    half = b" " * (DOCUMENTS_BYTES_MAX // 2)
    with pytest.raises(LimitError):
        ImageDescription.from_wire(
            wire(SAMPLE.containerd()) | {"config": half + SAMPLE.config, "manifest": half + SAMPLE.manifest}
        )


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"{}",
        b'{"rootfs":null}',
        b'{"rootfs":[]}',
        b'{"rootfs":{}}',
        b'{"rootfs":{"diff_ids":{}}}',
        b'{"rootfs":{"diff_ids":["x"]}}',
        b'{"rootfs":{"diff_ids":[1]}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' + b"9" * 10_000 + b"}",
    ],
    ids=lambda config: repr(config[:25]),
)
def test_configurations_that_are_none_are_refused(config: bytes) -> None:
    with pytest.raises(ProtocolError):
        ImageDescription.from_wire(_classic_of(config))


def _with(config: bytes, key: str) -> bytes:
    rootfs = json.dumps({"type": "layers", "diff_ids": [OTHER]})
    return config[:-1] + f', "{key}": {rootfs}}}'.encode()


@pytest.mark.parametrize("key", ["rootfs", "RootFS", "ROOTFS", "rootf\u017f"])
def test_a_second_list_of_layers_that_docker_would_take_instead_is_refused(key: str) -> None:
    with pytest.raises(MalformedError):
        ImageDescription.from_wire(_classic_of(_with(SAMPLE.config, key)))


@pytest.mark.parametrize(
    "change",
    [
        {"mediaType": "application/vnd.oci.image.index.v1+json"},
        {"MediaType": "x"},
        {"layers": None},
        {"config": None},
        {"config": []},
        {
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "digest": OTHER, "size": 1}
            ]
        },
        {"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": OTHER, "size": -1}]},
        {"layers": [{"mediaType": 3, "digest": OTHER, "size": 1}]},
        {"layers": ["x"]},
    ],
    ids=lambda change: str(change)[:50],
)
def test_manifests_that_are_none_are_refused(change: dict[str, Any]) -> None:
    manifest = json.dumps(json.loads(SAMPLE.manifest) | change).encode()
    with pytest.raises(MalformedError):
        ImageDescription.from_wire(wire(SAMPLE.containerd()) | {"manifest": manifest, "id": digest(manifest)})


def test_the_same_parts_give_the_same_manifest() -> None:
    assert build_manifest(SAMPLE.config, []) == build_manifest(SAMPLE.config, [])
    assert json.loads(build_manifest(SAMPLE.config, []))["config"]["digest"] == digest(SAMPLE.config)


def test_chain_ids_are_those_of_the_oci_specification() -> None:
    one, two = digest(b"1"), digest(b"2")
    assert chain_ids([]) == []
    assert chain_ids([one, two]) == [one, digest(f"{one} {two}".encode())]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("web:1", ("web", "1")),
        ("team/web:latest", ("team/web", "latest")),
        ("localhost/web:1", ("localhost/web", "1")),
        ("registry:5000/a/b:V_1.2-x", ("registry:5000/a/b", "V_1.2-x")),
        ("[::1]:5000/a:1", ("[::1]:5000/a", "1")),
        ("Host/a:1", ("Host/a", "1")),
        ("a__b/c-d.e:1", ("a__b/c-d.e", "1")),
        ("a/sha256:1", ("a/sha256", "1")),
    ],
)
def test_names_that_docker_takes(name: str, parts: tuple[str, str]) -> None:
    assert split_name(name) == parts


BAD_NAMES = [
    "",
    ":",
    "web",
    "web:",
    ":1",
    "Web:1",
    "web:-1",
    "web:1 ",
    "web:1\n",
    "we b:1",
    "web@sha256:" + "0" * 64,
    "web:1@sha256:" + "0" * 64,
    "../web:1",
    "a//b:1",
    "/web:1",
    "web/:1",
    "web:1/2",
    "-web:1",
    "a..b:1",
    "a___b:1",
    "web:" + "t" * 129,
    "w" * 256 + ":1",
    "0" * 64 + ":1",
    "web:\x1b[31m",
    "w\u00e9b:1",
    "web:\u0661",
    "web:1\0",
    "http://host/web:1",
    "sha256:" + "0" * 64,
    "docker.io/library/sha256:1",
    "a" * 10_000,
    "a-" * 5_000 + ":1",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: repr(name)[:30])
def test_names_that_are_no_references_are_refused(name: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        ImageDescription.from_wire(wire() | {"names": ["web:1", name]})
    assert str(caught.value).isprintable()


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(MalformedError):
        ImageDescription.from_wire(wire() | {"names": ["web:1", "web:1"]})
