"""What reaches Sentry, and what does that cost a task?

`failures` sets the SDK up and reports each failure once; `runs` and `records` keep its watch over runs and over log
records cheap.
"""
