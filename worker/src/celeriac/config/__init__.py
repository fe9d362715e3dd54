"""Which value does each setting of a worker have, and where does it come from? Values are read once, at the start."""
