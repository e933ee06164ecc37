"""Bad inputs, each with the error that it must meet."""
