"""From the user's files to examples: read, profile, shape, clean, drop duplicates and leaks, split, look before training."""
