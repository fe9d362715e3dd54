"""(pure) Messages, held entries, dead letters and replies of scripts, as values."""
