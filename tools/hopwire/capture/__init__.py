"""Packet captures as recordings: tshark reassembles TCP and opens TLS, this project's codec reads what is inside."""
