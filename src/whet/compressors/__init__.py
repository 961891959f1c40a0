"""How a network is made smaller, one file each."""
