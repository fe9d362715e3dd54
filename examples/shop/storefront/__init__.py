"""The shop's pages and tasks."""
