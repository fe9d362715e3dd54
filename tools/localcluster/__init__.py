"""A real Kubernetes on one machine, for the demo and the tests: see README.md in this folder.

Standard library only: this runs on a bare system Python, before any environment exists.
"""
