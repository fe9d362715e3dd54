"""What does kombu's event loop do otherwise: timers that are due together, and how another thread wakes it?"""
