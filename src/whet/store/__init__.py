"""What production leaves behind: the log of requests and answers."""
