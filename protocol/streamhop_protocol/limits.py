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

ITEMS_MAX = 1 << 17
"""Elements of arrays and entries of maps in one msgpack value, those of nested ones included: one may be a byte on the
wire, some 60 bytes in memory if it is an empty array, and time on the event loop."""

CONTAINERS_MAX = 1 << 17
"""Lists and objects in one JSON document that a peer sends."""

PATH_BYTES_MAX = 4096
NAME_BYTES_MAX = 255

CONTROL_TEXT_BYTES_MAX = 4096
"""UTF-8 bytes of a reason or of advice."""

OTHER_REASONS_MAX = 32
"""Reasons of a refusal besides the first."""

CODE_BYTES_MAX = 64
"""UTF-8 bytes of an error code or of the name of a state."""

LIST_ITEMS_MAX = 4096
"""Entries of a list in a message, e.g. the layers that a target lacks."""

MESSAGE_HEADER_BYTES_MAX = 32 * KIB
"""A message whose map is longer travels as the frame's payload."""

EPOCH_MAX = (1 << 32) - 1
SEQ_MAX = (1 << 48) - 1
"""Number of a frame within its stream."""

FRAME_COST_BYTES_MIN = 1 * KIB
"""Least credit a DATA frame takes, so that tiny frames cannot pile up by the hundred thousand."""

REORDER_FRAMES_MAX = STREAM_WINDOW_BYTES // FRAME_COST_BYTES_MIN + 2
"""Frames of one stream that can be under way within its window, with OPEN and END."""

STREAMS_DEFAULT = 8
"""Streams that a side lets its peer have open at once, unless it says otherwise. All of their windows together are what
a session can make this side hold; a move has at most 6 open."""

HELLO_BYTES_MAX = 1 * KIB
"""Header of a frame of the handshake: nothing longer is read from a peer that has not introduced itself."""

META_BYTES_MAX = 60 * KIB
"""What describes a chunk, as msgpack; the rest of the header is for the frame itself."""
