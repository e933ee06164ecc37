"""A deterministic simulator of the handover: the real code, on hosts, disks and links that are not."""
