"""Finds in CRIU's mm image the mappings whose pages CRIU can restore only from the image itself, not from a parent.

CRIU 4.2 (criu/mem.c, ``premap_priv_vmas`` and ``restore_priv_vma_content``) leaves mappings of huge pages, and those of
plugins, to the restorer, which reads the image's own pages file whatever the pagemap says about the parent.

Source of the format: images/mm.proto (field 14: mappings) and images/vma.proto (1 = start, 2 = end, 6 = flags,
7 = status), behind two magic numbers and the record's length.
"""

from __future__ import annotations

import struct

from streamhop_protocol.errors import LimitError, MalformedError
from streamhop_protocol.page_batches import ADDRESS_BITS_MAX, PAGE_SIZES

from .protobuf import fields

MM_FILE_BYTES_MAX = 64 * 1024 * 1024

_MAGIC = struct.pack("<II", 0x54564319, 0x57492820)
_LENGTH = struct.Struct("<I")
_FIELD_MAPPING = 14
_START, _END, _FLAGS, _STATUS = 1, 2, 6, 7
_MAP_HUGETLB = 0x40000
_STATUS_OF_PLUGIN = 1 << 27
_ADDRESS_MAX = 1 << ADDRESS_BITS_MAX
_ALIGNMENT = min(PAGE_SIZES)


def ranges_without_parent(data: bytes) -> list[tuple[int, int]]:
    """Addresses (from, to) of such mappings, ascending, not overlapping, none empty.

    :raises MalformedError: not an mm image, or mappings that no kernel has.
    :raises LimitError: larger than any that is accepted.
    """
    if len(data) > MM_FILE_BYTES_MAX:
        raise LimitError(f"mm image of {len(data)} bytes, at most {MM_FILE_BYTES_MAX} allowed")
    body = len(_MAGIC) + _LENGTH.size
    if not data.startswith(_MAGIC) or len(data) < body:
        raise MalformedError("image is not an mm image")
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    if length != len(data) - body:
        raise MalformedError("mm image does not hold exactly one record")
    found = []
    for number, value in fields(data[body:]):
        if number == _FIELD_MAPPING:
            if not isinstance(value, bytes):
                raise MalformedError("mapping in an mm image is not a message")
            mapping = {key: item for key, item in fields(value) if isinstance(item, int)}
            if mapping.get(_FLAGS, 0) & _MAP_HUGETLB or mapping.get(_STATUS, 0) & _STATUS_OF_PLUGIN:
                found.append((mapping.get(_START, 0), mapping.get(_END, 0)))
    found.sort()
    before = 0
    for start, end in found:
        if not before <= start < end <= _ADDRESS_MAX or start % _ALIGNMENT or end % _ALIGNMENT:
            raise MalformedError(f"mapping from {start:#x} to {end:#x} in an mm image")
        before = end
    return found
