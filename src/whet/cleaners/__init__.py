"""Cleaners: what is repaired in a text before training, and in the same way before each prediction."""
