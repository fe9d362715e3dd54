"""Is this worker set up correctly?

`celeriac doctor` shows the effective settings, where each value comes from, and the problems that they will cause.
`examination` collects the facts from the application and the machine, `facts` defines them, `effective` and `rules`
evaluate them (pure functions), and `command` prints the result. A worker runs the same examination when it starts, and
logs each finding once.

The doctor only reads. It makes no connections and changes nothing.
"""
