"""Which mappings of a process hold pages that a checkpoint would contain.

Source of the format: proc_pid_maps(5). What CRIU puts into an image decides what is worth reading here; a mapping
left out costs bytes in the final stage and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

_NEVER_DUMPED = frozenset({"[vvar]", "[vvar_vclock]", "[vsyscall]", "[vectors]", "[uprobes]"})
"""Mappings the kernel provides anew on every host."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps: addresses in bytes, ``device`` as in the file, ``path`` without escapes undone."""

    start: int
    end: int
    permissions: str
    device: str
    inode: int
    path: str

    @property
    def private(self) -> bool:
        """Whether writes stay in this process (copy on write)."""
        return self.permissions.endswith("p")

    @property
    def map_file(self) -> str:
        """Name of the mapping's link in /proc/PID/map_files."""
        return f"{self.start:x}-{self.end:x}"


def parse_maps(text: str) -> list[Mapping]:
    """Parse the whole of /proc/PID/maps. Lines of another shape (none are known) are left out."""
    mappings = []
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 5:
            continue
        start, _, end = fields[0].partition("-")
        path = fields[5] if len(fields) == 6 else ""
        mappings.append(Mapping(int(start, 16), int(end, 16), fields[1], fields[3], int(fields[4]), path))
    return mappings


def private_mappings(mappings: Iterable[Mapping]) -> list[Mapping]:
    """The mappings whose own (copied or anonymous) pages go into ``pagemap-<pid>``, in address order.

    Private mappings of hugetlb files count too. Private file mappings count because of pages written to.
    """
    return [mapping for mapping in mappings if mapping.private and mapping.path not in _NEVER_DUMPED]


def shared_mappings(mappings: Iterable[Mapping], anonymous_device: str) -> dict[str, Mapping]:
    """The shared anonymous files behind mappings, by memory object name.

    That is mmap(MAP_SHARED | MAP_ANONYMOUS), memfd_create and System V segments, also on huge pages. A private
    mapping of such a file makes CRIU dump the file as well. Files of a tmpfs *mount* are on other devices and are
    not memory but files.

    :param anonymous_device: see :func:`anonymous_shared_device`.
    """
    found: dict[str, Mapping] = {}
    for mapping in mappings:
        if mapping.device == anonymous_device or (not mapping.private and _on_hugetlb(mapping)):
            found.setdefault(f"pagemap-shmem-{mapping.inode}", mapping)
    return found


def _on_hugetlb(mapping: Mapping) -> bool:
    """Huge pages are files of kernel-internal mounts, one per page size, with devices of their own."""
    return mapping.path.startswith(("/anon_hugepage", "/memfd:")) and mapping.path.endswith(" (deleted)")


def anonymous_shared_device() -> str:
    """The device number of the kernel's internal tmpfs, as /proc/PID/maps writes it (``00:01``)."""
    descriptor = os.memfd_create("streamhop-probe", os.MFD_CLOEXEC)
    try:
        device = os.fstat(descriptor).st_dev
    finally:
        os.close(descriptor)
    return f"{os.major(device):02x}:{os.minor(device):02x}"
