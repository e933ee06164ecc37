"""Memory of a container: rounds of pre-copy at the source, a page store at the target, the final image.

The source reads pages of a running container (:mod:`.source`) and, once the container is frozen, compares what
CRIU dumps with what it has sent (:mod:`.final`). The target keeps pages by position (:mod:`.store`) and builds from
them an image directory that CRIU restores without a second copy of the memory (:mod:`.assemble`).

Everything here blocks and belongs into threads.
"""

from .batch_spool import BatchSpool, SpooledBatch
from .batching import PageBatch
from .final import FinalImage
from .source import MemorySource, ProcessLike
from .stats import RoundStats
from .store import PageStore

__all__ = [
    "BatchSpool",
    "FinalImage",
    "MemorySource",
    "PageBatch",
    "PageStore",
    "ProcessLike",
    "RoundStats",
    "SpooledBatch",
]
