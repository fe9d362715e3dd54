"""What does one pass over one pool do, in which order, and when is the next? Reads memory, decides, writes."""
