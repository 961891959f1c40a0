"""Checks: whether what comes in production still looks like what the model was judged on; one class in one file each."""
