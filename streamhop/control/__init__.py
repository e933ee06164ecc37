"""The local control API: HTTP and JSON on a unix socket for root, or for a group that the configuration names."""
