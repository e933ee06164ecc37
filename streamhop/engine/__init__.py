"""The rooms that know Docker, containerd, runc, CRIU and nftables.

Nothing is imported here: the OCI runtime (:mod:`.runtime`) lives in this package and starts in milliseconds.
"""
