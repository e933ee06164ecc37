"""Measures moves of real containers on the lab, with what a user could pick instead in the same run.

``scenarios``, ``figures``, ``judging``, ``charts`` and ``report`` are pure; ``inside`` holds programs that run in the
lab's hosts; ``movers`` has one module for each way to move a container.
"""
