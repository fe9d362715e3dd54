"""Is this worker alive, is it ready, and what is it doing?

`vitals` observes the worker, `rules` decides (pure functions), and `server` answers HTTP requests.
"""
