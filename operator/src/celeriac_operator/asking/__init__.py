"""What do running workers say of their work? They are asked for their `/status`, at a modest pace."""
