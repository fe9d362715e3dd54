"""What is changed in kombu's event loop? Timers that are due together, and waking it from another thread."""
