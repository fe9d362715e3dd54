"""Who may do a piece of work now? A fair lock in Redis, whose fencing token tells a late owner from the present one."""
