"""Augmenters: what makes new training rows of training rows."""
