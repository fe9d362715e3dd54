"""Which calls of a task are published, and which runs may overlap? Users use `values`; the library calls `dispatch`."""
