"""The demo: a shop on a real cluster, and each of Celeriac's promises measured on it.

Standard library only: it runs before any environment exists. `python -m demo` is the command; the end-to-end tests
use the same parts and the same scenarios.
"""
