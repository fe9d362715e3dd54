"""How is the Kubernetes API watched, read and written? The only room that knows a client of it."""
