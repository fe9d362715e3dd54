"""Where is what in Redis, and how is it reached? Every key, every connection, and how a script runs."""
