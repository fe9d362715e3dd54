"""What reaches Sentry, and what does that cost a task?

`failures` sets the SDK up and reports each failure once; `runs` keeps its watch over a run cheap.
"""
