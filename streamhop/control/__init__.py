"""The local control API: HTTP and JSON on a unix socket that only root can open."""
