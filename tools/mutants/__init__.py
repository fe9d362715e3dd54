"""`make mutants`: do the tests notice a bug? Each deliberate one is put into a copy of the tree: a test must fail."""
