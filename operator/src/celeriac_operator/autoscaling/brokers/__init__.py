"""How is each kind of broker read? Only `autoscaling.connect` chooses between them."""
