"""A recording frame by frame, for people and for programs."""
