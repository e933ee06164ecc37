"""One container moves back and forth between two real hosts, again and again: does anything grow?"""
