"""Who may wait when many want to: pure bookkeeping, without sockets and without time."""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

IPV6_PREFIX_BITS = 64
"""What one customer of a provider is given at least, RFC 6177: whoever has one address has all of these."""


def origin_of(host: str) -> Hashable:
    """What counts as one place of origin: an IPv4 address, or an IPv6 network of 64 bits.

    :param host: a numeric address, as a socket gives it; an IPv4 address may be mapped into IPv6.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        return ipaddress.IPv6Network((address, IPV6_PREFIX_BITS), strict=False)
    return address


class Admission(Generic[T]):
    """Places for a bounded number of members, and for fewer of each origin.

    A newcomer always gets a place; another has to go for it. Never the newest: an honest member needs its place for a
    few round trips, one that only occupies it would keep it. And always one of the origin that has the most: who comes
    from one origin, however often, takes no place from those who come from elsewhere and are few.
    """

    def __init__(self, places_max: int, places_per_origin_max: int) -> None:
        if places_max < 1 or places_per_origin_max < 1:
            raise ValueError("there has to be a place for the newest")
        self._places_max = places_max
        self._places_per_origin_max = places_per_origin_max
        self._origins: dict[Hashable, dict[T, int]] = {}
        """Members of each origin, oldest first, with the number of their arrival."""
        self._origin_of: dict[T, Hashable] = {}
        self._arrivals = count()

    def __len__(self) -> int:
        return len(self._origin_of)

    def __contains__(self, member: T) -> bool:
        return member in self._origin_of

    def admit(self, member: T, origin: Hashable) -> T | None:
        """Give ``member`` a place; returns who has to go and no longer has one, if anybody does."""
        members = self._origins.setdefault(origin, {})
        members[member] = next(self._arrivals)
        self._origin_of[member] = origin
        if len(members) > self._places_per_origin_max:
            return self._remove_oldest(members)
        if len(self) > self._places_max:
            return self._remove_oldest(max(self._origins.values(), key=lambda each: (len(each), -_first_arrival(each))))
        return None

    def remove(self, member: T) -> None:
        """The place of ``member`` is free; nothing if it has none."""
        if member not in self._origin_of:
            return
        origin = self._origin_of.pop(member)
        members = self._origins[origin]
        del members[member]
        if not members:
            del self._origins[origin]

    def _remove_oldest(self, members: dict[T, int]) -> T:
        oldest = next(iter(members))
        self.remove(oldest)
        return oldest


def _first_arrival(members: dict[T, int]) -> int:
    return next(iter(members.values()))
