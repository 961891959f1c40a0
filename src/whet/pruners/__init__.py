"""When a search gives a trial up."""
