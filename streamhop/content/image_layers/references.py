"""Names of images, in Docker's grammar.

Source: distribution/reference, the grammar at the head of reference.go. Only the form ``[host[:port]/]path:tag`` is
taken here, because it is the only one that ``RepoTags`` shows and that ``docker tag`` takes.
"""

from __future__ import annotations

import re

from streamhop_protocol.errors import LimitError, MalformedError

REPOSITORY_CHARACTERS_MAX = 255
TAG_CHARACTERS_MAX = 128

_HOST_PART = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH_PART = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]*")
_HEX_ID = re.compile(r"[a-f0-9]{64}")
_DIGEST_NAME = re.compile(r"(?:(?:index\.)?docker\.io/)?(?:library/)?sha256")
"""What Docker shortens to ``sha256``; with a tag behind it, it would read as another image's ID."""


def split_name(name: str) -> tuple[str, str]:
    """``(repository, tag)`` of a name such as ``registry:5000/team/web:1.2``.

    :raises LimitError: it is longer than Docker allows.
    :raises MalformedError: Docker would not take it.
    """
    # Lengths first: the patterns below then never see more than this.
    if len(name) > REPOSITORY_CHARACTERS_MAX + 1 + TAG_CHARACTERS_MAX:
        raise LimitError(f"an image's name is {len(name)} characters long")
    repository, colon, tag = name.rpartition(":")
    if not colon or len(repository) > REPOSITORY_CHARACTERS_MAX or len(tag) > TAG_CHARACTERS_MAX:
        raise MalformedError(f"{name!r} is not a name and a tag")
    host, slash, path = repository.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost" or host != host.lower()):
        # Without a dot, a port or a capital the first part is no host but part of the path.
        host, path = "", repository
    good = (not host or _HOST.fullmatch(host)) and all(_PATH_PART.fullmatch(part) for part in path.split("/"))
    if not good or not _TAG.fullmatch(tag) or _HEX_ID.fullmatch(repository) or _DIGEST_NAME.fullmatch(repository):
        raise MalformedError(f"{name!r} is not a name that Docker accepts for an image")
    return repository, tag
