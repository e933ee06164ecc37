"""At the source: what image is this? At the target: which of its layers are here already?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamhop.engine.docker import Engine
from streamhop_protocol.errors import LimitError, MalformedError

from .archive import saved
from .description import NAMES_MAX, ImageDescription, from_config, from_manifest
from .documents import DOCUMENTS_BYTES_MAX, INDEX_TYPES, diff_ids_of, media_type_of, parse_index, parse_manifest
from .errors import ImageError
from .local_store import LocalStore, store_of
from .references import split_name

SMALL_BLOB_BYTES_MAX = 1 << 20
"""Blobs of an archive up to this size are kept while it goes by: documents come in no order."""

SMALL_BLOBS_BYTES_MAX = 32 << 20

Lookup = Callable[[str], bytes | None]


async def describe(engine: Engine, image_id: str, *, shortcut: bool = True) -> ImageDescription:
    """Describe a local image.

    :param image_id: ID or name.
    :param shortcut: try the files of the engine before a whole ``docker save``.
    :raises NotFound: there is no such image.
    :raises ImageError: it cannot be moved.
    :raises EngineError: Docker does not answer.
    """
    info = await engine.info()
    image = await engine.inspect_image(image_id)
    try:
        if shortcut:
            store = LocalStore(info)
            found = await asyncio.to_thread(_from_files, store, info, image)
            if found is not None:
                return found
        return await _from_archive(engine, info, image)
    except (MalformedError, LimitError) as error:
        raise ImageError(f"image {str(image['Id'])[:19]} cannot be moved: {error}") from error


def _from_files(store: LocalStore, info: Mapping[str, Any], image: Mapping[str, Any]) -> ImageDescription | None:
    if store_of(info) == "containerd":
        described = _of_containerd(image, store.document)
        # An image can be listed while some of its layers are not there.
        if described is None or not all(store.has_blob(layer.digest, layer.size) for layer in described.layers):
            return None
        return described
    config = store.document(image["Id"])
    sizes = store.layer_sizes(_diff_ids(image))
    if config is None or sizes is None:
        return None
    return from_config(image["Id"], _names(image), config, sizes)


async def _from_archive(engine: Engine, info: Mapping[str, Any], image: Mapping[str, Any]) -> ImageDescription:
    image_id = str(image["Id"])
    small: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    budget = SMALL_BLOBS_BYTES_MAX
    async with saved(engine, image_id) as reader:
        while (entry := await reader.next_entry()) is not None:
            if (digest := entry.digest) is None:
                continue
            sizes[digest] = entry.size
            if entry.size <= min(SMALL_BLOB_BYTES_MAX, budget):
                small[digest] = await reader.read(SMALL_BLOB_BYTES_MAX)
                budget -= entry.size
    if store_of(info) == "containerd":
        described = _of_containerd(image, small.get)
        if described is None:
            raise ImageError(f"the engine's archive of image {image_id[:19]} lacks its documents")
        lacking = [layer for layer in described.layers if sizes.get(layer.digest) != layer.size]
        if lacking:
            raise ImageError(f"layer {lacking[0].digest[:19]} of image {image_id[:19]} is not in the engine's store")
        return described
    config = small.get(image_id)
    if config is None or any(diff_id not in sizes for diff_id in diff_ids_of(config)):
        raise ImageError(
            f"the engine's archive of image {image_id[:19]} is not laid out as expected: Docker 25 or later is needed"
        )
    return from_config(image_id, _names(image), config, sizes)


def _of_containerd(image: Mapping[str, Any], lookup: Lookup) -> ImageDescription | None:
    image_id = str(image["Id"])
    root = lookup(image_id)
    if root is None or len(root) > DOCUMENTS_BYTES_MAX:
        return None
    index, manifests = b"", [image_id]
    if media_type_of(root, "") in INDEX_TYPES or b'"manifests"' in root:
        index, manifests = root, [entry.digest for entry in parse_index(root)]
    for digest in manifests:
        # An index also lists other platforms, and signatures that are no images: usually they are not even here.
        manifest = lookup(digest)
        with contextlib.suppress(MalformedError):
            config = lookup(parse_manifest(manifest).config.digest) if manifest is not None else None
            if manifest is not None and config is not None and diff_ids_of(config) == _diff_ids(image):
                return from_manifest(image_id, _names(image), config, manifest, index)
    return None


def _diff_ids(image: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple((image.get("RootFS") or {}).get("Layers") or ())


def _names(image: Mapping[str, Any]) -> Sequence[str]:
    names = []
    for name in image.get("RepoTags") or ():
        with contextlib.suppress(MalformedError, LimitError):
            split_name(name)
            names.append(name)
    return names[:NAMES_MAX]
