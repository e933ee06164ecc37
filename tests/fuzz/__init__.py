"""P10: no decoder of a peer's bytes raises anything but its own error, hangs, or takes memory without bound.

``targets/`` has one entry for each decoder, ``cases/`` the bad inputs that are known, each with its error, ``corpus/``
the same as files, ``run.py`` the coverage-guided runs (``make fuzz MINUTES=10``).
"""
