"""How parameters step, one file each."""
