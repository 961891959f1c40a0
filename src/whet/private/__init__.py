"""Private data in texts: where it stands, and what is put in its place. Serves training data and the log of requests alike."""
