"""Writes the files that are derived from the code: the CRD, the references, the schema of the environment contract."""
