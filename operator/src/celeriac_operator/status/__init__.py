"""(pure) What does a pool say of itself: conditions, counts and events, computed from what is observed?"""
