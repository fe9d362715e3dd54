"""What does the operator know of the cluster, and which pools must be reconciled again? Watches and resyncs fill it."""
