"""One module per verb: the only place where the layers are wired together."""
