"""Which parameters learn, one file each."""
