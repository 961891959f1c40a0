"""Prompt tuning: embeddings before every row, in PEFT's file format."""

import math
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn, no_grad

from whet.engine.attention import Prefix
from whet.errors import ModelError
from whet.models.peft_folder import CONFIG, WEIGHTS, number, read_adapter, refuse_other_base, write_adapter
from whet.models.policy import Policy
from whet.models.virtual_sources import BeforeSources
from whet.models.virtual_tokens import (
    Beside,
    Inserted,
    Virtual,
    are_there,
    attending_layers,
    check_room,
    put,
    put_prefix,
    take,
    there,
    virtual_ids,
)
from whet.plugins import plugin


@plugin
class PromptTuning:
    """The embeddings of a few tokens before every row learn. Lester et al. 2021 (arXiv:2104.08691), section 2; the smallest of all.

    They begin as embeddings of real tokens (section 3.2). A causal network computes them once for a whole batch. In layers with a
    window the rows see them always. An encoder-decoder reads them before every source.
    """

    length: int = Field(20, ge=1)
    """Virtual tokens before each row; they use up as much of the model's context."""
    text: str | None = None
    """Text whose embeddings the prompt begins with, such as the instruction; none: tokens drawn from the vocabulary."""

    mergeable: ClassVar[bool] = False
    identity: ClassVar[bool] = False
    learning_rates: ClassVar[tuple[tuple[float, float], ...]] = ((20, 3e-2), (math.inf, 1e-2))
    why_rates: ClassVar[str] = "a few embeddings must move far; Lester et al. take 0.3 for the largest models"

    @property
    def num_virtual(self) -> int:
        """Virtual tokens before each row."""
        return self.length

    def attach(self, policy: Policy, seed: int) -> None:
        check_room(policy, self.length, "prompt")
        ids = virtual_ids(policy, self.length, self.text, seed)
        embedding = nn.Parameter(policy.network.get_input_embeddings()(ids)[0].detach().clone())
        layers = attending_layers(policy) if policy.kind == "decoder" else ()
        policy.network.requires_grad_(False)
        held = [put_prefix(policy, layer.name, Prefix()) for layer in layers]
        if policy.kind == "encoder-decoder":
            put(policy, BeforeSources(embedding))
        else:
            put(policy, Beside(embedding, held) if held else Inserted(embedding, policy.ability.first_position))
        policy.heads.requires_grad_(True)

    def detach(self, policy: Policy) -> None:
        take(policy)

    def merge(self, policy: Policy) -> None:
        """Raise ModelError: no weight of the base computes the same."""
        raise ModelError(
            "technique 'prompt' cannot be merged: its embeddings are no weights of the base. Keep the adapter folder."
        )

    def save(self, policy: Policy, folder: Path) -> None:
        embedding = _embedding(there(policy))
        config = policy.network.config.get_text_config()
        settings = {
            "num_virtual_tokens": len(embedding),
            "token_dim": embedding.shape[1],
            "num_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads,
            "num_transformer_submodules": 1,
            "prompt_tuning_init": "RANDOM",
        }
        write_adapter(policy, folder, "PROMPT_TUNING", settings, {"prompt_embeddings": embedding})

    def load(self, policy: Policy, folder: Path) -> None:
        """Attach and fill from a folder in PEFT's format, one of PEFT's own too; its length is the folder's."""
        config, tensors = read_adapter(folder, "PROMPT_TUNING")
        if not are_there(policy):
            type(self)(int(number(config, "num_virtual_tokens", folder / CONFIG))).attach(policy, seed=0)
        embedding = _embedding(there(policy))
        if policy.kind == "encoder-decoder":  # PEFT keeps as many again for the decoder, and never uses them
            tensors = {name: tensor[: len(embedding)] for name, tensor in tensors.items()}
        refuse_other_base(folder / WEIGHTS, {"prompt_embeddings": embedding}, tensors)
        with no_grad():
            embedding.copy_(tensors["prompt_embeddings"])


def _embedding(tokens: Virtual) -> Tensor:
    assert isinstance(tokens, (Beside, Inserted, BeforeSources)), type(tokens)
    return tokens.embedding
