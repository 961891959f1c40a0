"""Full fine-tuning."""

import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from whet.errors import ModelError, RunError
from whet.models.blocks import outline
from whet.models.policy import Policy
from whet.models.tensors import load_tensors, save_tensors
from whet.plugins import plugin

WEIGHTS = "model.safetensors"


@plugin
class Full:
    """Every weight of the network learns, or only those of its top blocks."""

    layers: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    """How many blocks learn, counted from the output, with the norm and the output head above them; all: the embeddings too."""

    mergeable: ClassVar[bool] = True
    learning_rates: ClassVar[tuple[tuple[float, float], ...]] = ((20, 5e-4), (60, 1e-4), (200, 5e-5), (math.inf, 2e-5))
    why_rates: ClassVar[str] = "all weights learn; larger models want smaller steps"

    def attach(self, policy: Policy, seed: int) -> None:
        policy.network.requires_grad_(self.layers == "all")
        if self.layers != "all":
            self._let_top_learn(policy, self.layers)
        policy.heads.requires_grad_(True)

    def detach(self, policy: Policy) -> None:
        """Freeze the network. There is nothing to take off: the base's weights are the tuned ones."""
        policy.network.requires_grad_(False)

    def merge(self, policy: Policy) -> None:
        policy.network.requires_grad_(False)

    def save(self, policy: Policy, folder: Path) -> None:
        policy.network.config.save_pretrained(folder)
        tied = set(policy.network.all_tied_weights_keys or ())
        save_tensors({name: tensor for name, tensor in policy.network.state_dict().items() if name not in tied}, folder / WEIGHTS)

    def load(self, policy: Policy, folder: Path) -> None:
        """Put the saved weights into the network. Raises RunError where they are not all of its own."""
        tensors = load_tensors(folder / WEIGHTS)
        tied = set(policy.network.all_tied_weights_keys or ())
        wanted = {name: tensor.shape for name, tensor in policy.network.state_dict().items() if name not in tied}
        if wanted != {name: tensor.shape for name, tensor in tensors.items()}:
            raise RunError(
                f"{folder / WEIGHTS}: its weights do not fit this model by name and size. They belong to another base model."
            )
        policy.network.load_state_dict(tensors, strict=False)
        policy.network.tie_weights()

    def _let_top_learn(self, policy: Policy, number: int) -> None:
        found = outline(policy)
        if number > len(found.blocks):
            raise ModelError(
                f"full: layers is {number}, and {policy.source.name} has {len(found.blocks)} blocks. "
                f"Allowed: 1 to {len(found.blocks)}, or all."
            )
        embedding = policy.network.get_input_embeddings().weight
        for name in [*(block.name for block in found.blocks[-number:]), *found.above]:
            for parameter in policy.network.get_submodule(name).parameters():
                parameter.requires_grad_(parameter is not embedding)  # a head that shares it would change the bottom too
