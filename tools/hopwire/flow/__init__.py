"""The flow file: what passed by on the wire, kept as a sequence of records that can be written and read as a stream."""
