"""The loop and what it is made of: attention, cutting, order, losses, checkpoints, generation."""
