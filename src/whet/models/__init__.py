"""Base models as policies: loading, templates, saving, and the built-in ones."""
