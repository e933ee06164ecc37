"""Sits between two daemons, passes on what each says, and has it recorded."""
