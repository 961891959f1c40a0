"""What writes a served model's answers, one file each."""
