"""The corners of the range of versions that the worker library supports, and its tests in each of them."""
