"""Programs that run in the lab's hosts, with the host's own Python."""
