"""What every deployment bundle has in common: the run in it, its packages, its image, and how it is started."""
