"""Speaks to a daemon as a peer that need not be honest: recorded sessions with a fault, frames made by hand."""
