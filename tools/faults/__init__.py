"""The failure matrix on real hosts: break something at every step of a move, and see that the promises hold."""
