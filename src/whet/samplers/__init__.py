"""How a search chooses what to try next."""
