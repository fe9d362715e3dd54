"""What is known of the cluster now, and which pools must be looked at again? It is fed by watches and reads nothing."""
