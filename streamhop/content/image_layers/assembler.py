"""At the target: collects the layers that come, verifies each, and gives the engine the image."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from streamhop.engine.docker import Conflict, Engine, EngineError, NotFound
from streamhop_protocol.errors import IntegrityError, UnexpectedError

from .archive import blob_path
from .description import ImageDescription, LayerDescription, Store
from .documents import (
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    build_archive_list,
    build_index,
    build_manifest,
    digest_of,
    media_type_of,
)
from .errors import ImageError
from .held import held_blobs
from .local_store import store_of
from .references import split_name
from .tar_headers import END_OF_ARCHIVE, encode_header, padding

ARCHIVE_CHUNK_BYTES = 1 << 20
PARTIAL = ".partial"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


async def remove_brought(engine: Engine, brought: Mapping[str, str]) -> None:
    """Undo what :meth:`ImageAssembler.load` brought. An image that is in use by now stays. Safe to repeat.

    :param brought: references, each with the ID of the image that it stood for.
    :raises EngineError: Docker does not answer.
    """
    for reference, identifier in brought.items():
        with contextlib.suppress(NotFound, Conflict):
            # Somebody may have given the name to another image by now.
            if (await engine.inspect_image(reference))["Id"] == identifier:
                await engine.remove_image(reference)


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


class BlobWriter:
    """Takes the content of one layer. No file is held open between two calls, so nothing leaks if it is dropped.

    :ivar offset: bytes that an earlier attempt has left; the content goes on from there.
    """

    def __init__(self, directory: Path, layer: LayerDescription) -> None:
        self._layer = layer
        self._path = directory / layer.digest.removeprefix("sha256:")
        self._partial = self._path.with_suffix(PARTIAL)
        self._hash = hashlib.sha256()
        self.is_open = True
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._partial, flags, 0o600), "rb") as file:
            while piece := file.read(ARCHIVE_CHUNK_BYTES):
                self._hash.update(piece)
            self.offset = self._size = file.tell()

    def write(self, data: bytes | memoryview) -> None:
        """Append ``data``.

        :raises IntegrityError: there is more of it than was announced.
        :raises OSError: it cannot be stored.
        """
        self._check_open()
        self._size += len(data)
        if self._size > self._layer.size:
            self.abort()
            raise IntegrityError(
                f"layer {self._layer.digest[:19]} is longer than the {self._layer.size} bytes announced"
            )
        self._hash.update(data)
        try:
            with self._partial.open("ab", buffering=0) as file:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]
        except OSError:
            self.abort()
            raise

    def commit(self) -> None:
        """The content is complete.

        :raises IntegrityError: it is not what its digest says; nothing of it stays.
        :raises OSError: it cannot be stored.
        """
        self._check_open()
        if self._size != self._layer.size or f"sha256:{self._hash.hexdigest()}" != self._layer.digest:
            self.abort()
            raise IntegrityError(f"layer {self._layer.digest[:19]}: the content is not what the digest says")
        self.is_open = False
        self._partial.rename(self._path)

    def abort(self) -> None:
        """Drop the content. Safe to repeat."""
        if self.is_open:
            self.is_open = False
            self._partial.unlink(missing_ok=True)

    def _check_open(self) -> None:
        if not self.is_open:
            raise UnexpectedError(f"layer {self._layer.digest[:19]} has ended already")


class ImageAssembler:
    """An image on its way into the engine.

    Call :meth:`blob_writer` for each layer that comes, :meth:`load` when all are there, :meth:`discard` at the end;
    :meth:`undo` if the image is not needed after all.

    :param spool: directory for the layers; made here if need be, its parent must exist. What an earlier attempt has
        left there is used, if it is of this image.
    """

    def __init__(self, spool: Path, image: ImageDescription) -> None:
        self._spool = spool
        self._image = image
        self._layers = {layer.digest: layer for layer in image.layers}
        self._loaded = False
        self._local_id = ""
        self._names_added: list[str] = []
        self._names_kept: list[str] = []
        self._writers: dict[str, BlobWriter] = {}
        spool.mkdir(mode=0o700, exist_ok=True)

    def left_over(self) -> tuple[frozenset[str], dict[str, int]]:
        """What an earlier attempt has left: digests of whole layers, and bytes of those that broke off; blocks.

        Whole ones are verified once more: nothing that lay on a disk is believed. What is of no use is removed.

        :raises OSError: it cannot be read.
        """
        whole, begun = set(), {}
        for path in self._spool.iterdir():
            digest = f"sha256:{path.stem}"
            layer = self._layers.get(digest)
            size = path.stat(follow_symlinks=False).st_size
            if layer is not None and path.suffix == PARTIAL and size < layer.size:
                begun[digest] = size
            elif layer is not None and not path.suffix and size == layer.size and _digest_of_file(path) == digest:
                whole.add(digest)
            else:
                path.unlink()
        return frozenset(whole), begun

    @property
    def loaded(self) -> bool:
        """Whether the image was not here before :meth:`load`."""
        return self._loaded

    @property
    def names_kept(self) -> tuple[str, ...]:
        """Names that the image has at the source and did not get here, because another image has them."""
        return tuple(self._names_kept)

    @property
    def brought(self) -> dict[str, str]:
        """What undoes :meth:`load` when it is removed, each reference with the ID of its image: for the journal."""
        references = self._names_added or ([self._local_id] if self._loaded else [])
        return dict.fromkeys(references, self._local_id)

    def blob_writer(self, digest: str) -> BlobWriter:
        """Where the content of a layer goes.

        :raises UnexpectedError: no layer of the image, or one that came before.
        :raises OSError: it cannot be stored.
        """
        layer = self._layers.get(digest)
        if layer is None:
            raise UnexpectedError("a layer that the image does not have")
        writer = self._writers.get(digest)
        if (writer is not None and writer.is_open) or self._blob(digest).exists():
            raise UnexpectedError(f"layer {digest[:19]} came twice")
        writer = self._writers[digest] = BlobWriter(self._spool, layer)
        return writer

    async def load(self, engine: Engine) -> str:
        """Give the engine the image, and the image its names as far as they are free here.

        :returns: the image's ID on this engine. It is the source's ID if both have the same kind of image store.
        :raises ImageError: the engine does not make this image of it. What was loaded is taken away again.
        :raises EngineError: Docker refuses.
        """
        store = store_of(await engine.info())
        manifest = await self._manifest(engine, store)
        self._local_id = self._expected_id(store, manifest)
        came = await asyncio.to_thread(lambda: [digest for digest in self._layers if self._blob(digest).exists()])
        try:
            if not await self._present(engine):
                self._loaded = True
                await self._load(engine, manifest, came)
            elif came:
                # Present, but found incomplete when its layers were asked for.
                await self._load(engine, manifest, came)
            await self._give_names(engine)
        except BaseException:
            with contextlib.suppress(EngineError):
                await self.undo(engine)
            raise
        return self._local_id

    async def would_bring(self, engine: Engine) -> dict[str, str]:
        """What :attr:`brought` will be after :meth:`load`, and what undoes a :meth:`load` that was cut short.

        :raises EngineError: Docker does not answer.
        """
        store = store_of(await engine.info())
        self._local_id = self._expected_id(store, await self._manifest(engine, store))
        present = await self._present(engine)
        references = [] if present else [self._local_id]
        for name in self._image.names:
            try:
                await engine.inspect_image(name)
            except NotFound:
                references.append(name)
        # By its ID an image goes only if it has no other name: the names come first.
        return dict.fromkeys(reversed(references), self._local_id)

    async def undo(self, engine: Engine) -> None:
        """Take away what :meth:`load` brought. An image that is in use by now stays. Safe to repeat.

        :raises EngineError: Docker does not answer.
        """
        await remove_brought(engine, self.brought)
        self._names_added.clear()
        self._loaded = False

    def discard(self) -> None:
        """Remove the layers that came. Safe to repeat."""
        shutil.rmtree(self._spool, ignore_errors=True)

    def _blob(self, digest: str) -> Path:
        return self._spool / digest.removeprefix("sha256:")

    async def _manifest(self, engine: Engine, store: Store) -> bytes:
        """The source's manifest; for an image of a classic store, one made of the layers that came and those here."""
        if self._image.manifest:
            return self._image.manifest
        held: Mapping[str, Descriptor] = {}
        if store == "containerd":
            held = await held_blobs(engine, self._image)
        layers = []
        for layer in self._image.layers:
            plain = Descriptor(OCI_LAYER, layer.digest, layer.size)
            came = await asyncio.to_thread(self._blob(layer.digest).exists)
            layers.append(plain if came else held.get(layer.diff_id, plain))
        return build_manifest(self._image.config, layers)

    def _expected_id(self, store: Store, manifest: bytes) -> str:
        if store == self._image.store:
            return self._image.id
        return self._image.config_digest if store == "classic" else digest_of(manifest)

    async def _present(self, engine: Engine) -> bool:
        try:
            found = await engine.inspect_image(self._local_id)
        except NotFound:
            return False
        layers = tuple((found.get("RootFS") or {}).get("Layers") or ())
        return bool(found["Id"] == self._local_id and layers == self._image.diff_ids)

    async def _load(self, engine: Engine, manifest: bytes, came: list[str]) -> None:
        lines = await engine.load_image(self._archive(manifest, came))
        # With a containerd store the engine says both that it loaded an image and that it cannot be used.
        broken = [line for line in lines if line.startswith("Error")]
        if broken:
            raise ImageError(f"the image could not be loaded: {broken[0][:300]}")
        if not await self._present(engine):
            raise ImageError(f"the engine loaded the image but does not have it as {self._local_id[:19]}")

    async def _archive(self, manifest: bytes, came: list[str]) -> AsyncIterator[bytes]:
        """An OCI layout with Docker's own list beside it, without a name, and without the layers that are here.

        Both kinds of store take that: the classic one looks for each layer's chain before it reads the layer, the
        containerd one finds blobs of an OCI layout in its content store.
        """
        image = self._image
        root, root_type = (image.index, OCI_INDEX) if image.index else (manifest, OCI_MANIFEST)
        files = {
            "oci-layout": _LAYOUT,
            "index.json": build_index(media_type_of(root, root_type), root),
            "manifest.json": build_archive_list(
                blob_path(image.config_digest), [blob_path(layer.digest) for layer in image.layers]
            ),
        }
        for document in (image.config, manifest, image.index):
            if document:
                files[blob_path(digest_of(document))] = document
        yield encode_header("blobs/", 0, directory=True) + encode_header("blobs/sha256/", 0, directory=True)
        for name, content in files.items():
            yield encode_header(name, len(content)) + content + bytes(padding(len(content)))
        for digest in came:
            size = self._layers[digest].size
            yield encode_header(blob_path(digest), size)
            with self._blob(digest).open("rb") as file:
                while piece := await asyncio.to_thread(file.read, ARCHIVE_CHUNK_BYTES):
                    yield piece
            yield bytes(padding(size))
        yield END_OF_ARCHIVE

    async def _give_names(self, engine: Engine) -> None:
        for name in self._image.names:
            try:
                found = await engine.inspect_image(name)
            except NotFound:
                repository, tag = split_name(name)
                await engine.tag(self._local_id, repository, tag)
                self._names_added.append(name)
            else:
                if found["Id"] != self._local_id:
                    self._names_kept.append(name)
