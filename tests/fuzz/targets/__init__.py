"""The targets, by what they decode."""
