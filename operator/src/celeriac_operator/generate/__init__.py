"""Which files are generated from the code? The CRD, the references, the schema of the environment contract."""
