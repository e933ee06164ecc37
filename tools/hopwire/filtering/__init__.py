"""The language that chooses among frames, such as ``type == PAGES and stream == 3 and size > 64k``."""

from .compiled import Filter, compile_filter

__all__ = ["Filter", "compile_filter"]
