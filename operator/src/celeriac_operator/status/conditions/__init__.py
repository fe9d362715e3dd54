"""(pure) Which further conditions does a pool have? One module for each."""
