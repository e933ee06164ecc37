"""A recording as a whole: sessions, streams, rounds, what went wrong; as text, as JSON, as a page with a timeline."""
