"""A fair lock in Redis. Its fencing token distinguishes a late owner from the current one."""
