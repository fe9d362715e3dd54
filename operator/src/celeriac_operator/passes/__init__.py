"""What does one reconciliation of a pool do, in which order, and when is the next? Reads memory, decides, writes."""
