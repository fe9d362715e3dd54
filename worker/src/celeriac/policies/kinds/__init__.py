"""What does each policy do when a call is published, starts and ends? One module for each policy."""
