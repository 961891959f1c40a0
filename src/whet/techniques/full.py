"""Full fine-tuning."""

from pathlib import Path
from typing import ClassVar

from whet.errors import RunError
from whet.models.policy import Policy
from whet.models.tensors import load_tensors, save_tensors
from whet.plugins import plugin

WEIGHTS = "model.safetensors"


@plugin
class Full:
    """Every weight of the network learns."""

    mergeable: ClassVar[bool] = True

    def attach(self, policy: Policy, seed: int) -> None:
        policy.network.requires_grad_(True)
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
