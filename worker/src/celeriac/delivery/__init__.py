"""Delivers messages from their queues to tasks. No message is lost, whichever process dies at whatever moment."""
