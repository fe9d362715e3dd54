"""What would a target do with a load, beside other ways to scale? The policy with a simulated pool around it."""
