"""Is this worker set up for what is expected of it?

`celeriac doctor` says which settings hold, where each value comes from, and what will go wrong with them. `facts`
is what is known, `effective` and `rules` decide over it, purely; `examination` gathers the facts from the application
and the machine, `command` prints. A worker runs the same examination at its start and logs each finding once.

It reads; it connects to nothing and changes nothing.
"""
