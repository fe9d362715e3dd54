"""(pure) One module for each question about a pool beside whether it is ready; each makes one condition."""
