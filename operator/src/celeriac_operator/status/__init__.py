"""(pure) What is reported about a pool? Conditions, counts and events, computed from what is observed."""
