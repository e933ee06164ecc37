"""Every bound of the wire protocol, in one place. Each is checked before a byte is allocated for what it bounds."""

KIB = 1024
MIB = 1024 * KIB

FRAME_HEADER_BYTES_MAX = 64 * KIB
"""msgpack header of one frame."""

FRAME_PAYLOAD_BYTES_MAX = 1 * MIB
"""Payload of one frame, as it is on the wire."""

CHUNK_RAW_BYTES_MAX = 1 * MIB
"""One chunk after decompression."""

CONTROL_PAYLOAD_BYTES_MAX = 8 * MIB
"""A control message too large for a header travels as payload (manifest of an image with many layers)."""

STREAMS_OPEN_MAX = 256
"""Streams open at once in one session."""

CONNECTIONS_MAX = 16
"""TCP connections of one session, the control one included."""

STREAM_WINDOW_BYTES = 4 * MIB
"""Credit of a new stream: payload bytes the sender may have under way before the receiver grants more."""

NESTING_MAX = 16
"""Depth of arrays and maps in one msgpack value."""

PATH_BYTES_MAX = 4096
NAME_BYTES_MAX = 255
