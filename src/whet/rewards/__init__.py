"""What an answer is worth, one file each."""
