"""Which calls of a task are published, and which runs may overlap? Users write `values`; `dispatch` is the entry."""
