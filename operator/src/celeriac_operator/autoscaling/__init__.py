"""How many workers should a pool have? The decision, and a simulator to choose its targets with."""
