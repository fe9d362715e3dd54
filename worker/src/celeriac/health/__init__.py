"""Is this worker alive, is it ready, and what is it doing?

`rules` decides, purely, over what was observed; `vitals` observes; `server` answers HTTP.
"""
