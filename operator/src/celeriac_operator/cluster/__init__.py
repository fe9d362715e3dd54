"""How is the Kubernetes API watched, read and written? Only this room imports a client for it."""
