"""How does a message get from its queue to a task, and what becomes of it? No message is lost, whoever dies when."""
