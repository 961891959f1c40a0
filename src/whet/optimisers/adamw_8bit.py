"""AdamW with its state in 8 bits."""

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from whet.engine.optimise import decayed_groups
from whet.errors import ModelError, RecipeError, installing
from whet.models.quantised import kernels
from whet.plugins import plugin

NAME = "optimiser 'adamw_8bit'"


@plugin
class AdamW8Bit:
    """AdamW with both means in 8 bits by blocks of 256, a quarter of its state. Dettmers et al. 2022 (arXiv:2110.02861), section 2.

    Through bitsandbytes (pip install 'whet[qlora]'). On a processor the means are made whole again one matrix at a time: it saves the
    memory there too, and takes more time than `adamw`.
    """

    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the mean of gradients."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of the mean of their squares."""
    epsilon: float = Field(1e-8, gt=0)
    """Added to the root, against division by zero."""
    smallest: int = Field(4096, ge=256, le=16384)
    """Numbers of a parameter below which its means stay in fp32."""

    def __post_init__(self) -> None:
        """Say at once, before anything is read, where bitsandbytes is not there."""
        if find_spec("bitsandbytes") is None:
            raise RecipeError(
                f"{NAME} needs the package bitsandbytes, which is not installed. Install it with: {installing('qlora')}, or use "
                "adafactor, lion or adamw."
            )

    def build(self, named: Sequence[tuple[str, Tensor]], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        """Return the optimiser; weight decay acts on matrices only. Raises ModelError where bitsandbytes cannot compute on this device."""
        for device in {tensor.device for _, tensor in named}:
            _try(device)
        made: torch.optim.Optimizer = _adamw_8bit()(
            decayed_groups(named, weight_decay),
            lr=learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.epsilon,
            min_8bit_size=self.smallest,
        )
        return made


def _adamw_8bit() -> Any:
    """Return bitsandbytes' class."""
    kernels(NAME)  # before anything else of it is imported
    return importlib.import_module("bitsandbytes.optim").AdamW8bit


def _try(device: torch.device) -> None:
    """Take a step in 8 bits there, since what bitsandbytes can compute depends on the device and its version."""
    tried = torch.nn.Parameter(torch.zeros(256, device=device))
    tried.grad = torch.ones_like(tried)
    try:
        _adamw_8bit()([tried], min_8bit_size=256).step()
    except (RuntimeError, AttributeError) as error:  # NotImplementedError is a RuntimeError
        said = str(error).split("\n")[0]
        raise ModelError(
            f"{NAME}: the installed bitsandbytes has no 8-bit optimiser for '{device.type}': {said}. Use adafactor or lion, which take little "
            "memory too, or adamw."
        ) from None
