"""Adds a tensor of the processor to one of the pretended device, and prints what is said of it. Run by its test."""

import pretended
import torch

with pretended.a_device():
    there = torch.ones(3, device=pretended.DEVICE)
    try:
        there + torch.ones(3)
    except RuntimeError as error:
        print(error)
