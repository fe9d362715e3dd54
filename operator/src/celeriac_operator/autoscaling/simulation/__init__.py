"""How would an autoscaling target behave under a load, compared with other autoscalers? A simulation of a pool."""
