"""How many workers should a pool have? Reads queues, decides, and writes `spec.replicas`; with a simulator of
targets."""
