"""An application whose import fails."""

raise RuntimeError("SHOP_KEY is not set")
