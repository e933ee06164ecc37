"""Ways to move a container: streamhop, and what a user could pick instead. One module each, one small interface."""
