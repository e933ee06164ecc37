"""Looks at the wire between two daemons: records, decodes, replays, attacks.

``flow`` is the file in which what passed by is kept, ``events`` what a reader of any recording sees, ``filtering`` the
language that chooses among frames. Everything that came from a peer or a file is hostile: lengths are bounded
before anything is allocated, and nothing but :func:`~.escaping.printable` text reaches a terminal.
"""
