"""(pure) What should exist for a pool? One module per kind of object; `build` lists them."""
