"""The data pipeline beside datatrove's, on the same rows."""
