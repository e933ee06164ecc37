"""Sans-I/O codec of the streamhop wire protocol.

Everything here is pure: bytes in, values out. Nothing imports asyncio, socket, time or ``streamhop``.
The normative text is ``protocol/SPEC.md``.
"""
