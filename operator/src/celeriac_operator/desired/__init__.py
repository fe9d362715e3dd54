"""(pure) What should exist for a pool, as manifests? One module for each kind; `build` lists what exists and when."""
