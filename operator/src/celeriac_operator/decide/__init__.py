"""(pure) What must change in the cluster for a pool? Observed and desired objects in, a plan with reasons out."""
