"""The kinds of brokers, each read in its own way; nobody outside `broker.py` needs to know which."""
