"""Metrics: one file each; every score comes from per-example statistics."""
