"""The sizes of networks: of a policy, of a configuration file, and of models that are often used."""

from __future__ import annotations

from transformers import PreTrainedConfig

from whet.models.linear import linear_layers, sizes
from whet.models.memory import Shape
from whet.models.policy import Kind, Policy


def _decoder(
    name: str, layers: int, width: int, heads: int, kv_heads: int, inner: int, vocabulary: int, **more: bool | int
) -> Shape:
    head_width = int(more.pop("head_width", width // heads))
    tied, normed = bool(more.pop("tied", True)), bool(more.pop("normed_heads", False))
    return Shape(
        name=name, kind="decoder", layers=layers, width=width, heads=heads, kv_heads=kv_heads, head_width=head_width, inner=inner,
        vocabulary=vocabulary, gated=True, tied=tied, normed_heads=normed,
    )  # fmt: skip


def _encoder(name: str, layers: int, width: int, heads: int, inner: int, vocabulary: int, gated: bool = False) -> Shape:
    return Shape(
        name=name, kind="encoder", layers=layers, width=width, heads=heads, kv_heads=heads, head_width=width // heads, inner=inner,
        vocabulary=vocabulary, gated=gated,
    )  # fmt: skip


KNOWN = (
    _encoder("builtin:minilm", 6, 384, 12, 1536, 30522),
    _encoder("google-bert/bert-base-uncased", 12, 768, 12, 3072, 30522),
    _encoder("answerdotai/ModernBERT-base", 22, 768, 12, 1152, 50368, gated=True),
    _encoder("FacebookAI/roberta-large", 24, 1024, 16, 4096, 50265),
    _encoder("answerdotai/ModernBERT-large", 28, 1024, 16, 2624, 50368, gated=True),
    _decoder("builtin:seedling", 6, 192, 6, 2, 512, 4096),
    _decoder("HuggingFaceTB/SmolLM2-135M", 30, 576, 9, 3, 1536, 49152),
    _decoder("Qwen/Qwen3-0.6B", 28, 1024, 16, 8, 3072, 151936, head_width=128, normed_heads=True),
    _decoder("meta-llama/Llama-3.2-1B", 16, 2048, 32, 8, 8192, 128256),
    _decoder("Qwen/Qwen3-1.7B", 28, 2048, 16, 8, 6144, 151936, head_width=128, normed_heads=True),
    _decoder("Qwen/Qwen3-4B", 36, 2560, 32, 8, 9728, 151936, head_width=128, normed_heads=True),
    _decoder("Qwen/Qwen3-8B", 36, 4096, 32, 8, 12288, 151936, head_width=128, normed_heads=True, tied=False),
    _decoder("Qwen/Qwen3-14B", 40, 5120, 40, 8, 17408, 151936, head_width=128, normed_heads=True, tied=False),
    _decoder("Qwen/Qwen3-32B", 64, 5120, 64, 8, 25600, 151936, head_width=128, normed_heads=True, tied=False),
)  # fmt: skip
"""Of published models by their own configuration files, from small to large; the first two of each kind are no suggestion of quality."""


def shape_of(policy: Policy) -> Shape:
    """Return the sizes of a network that is there. Before a technique is attached, or after: what it adds is not among them."""
    layers = [sizes(layer) for _, layer in linear_layers(policy)]
    return shape_of_config(
        policy.source.name, policy.network.config, policy.kind, policy.num_parameters, sum(a * b for a, b in layers)
    )


def shape_of_config(
    name: str, config: PreTrainedConfig, kind: Kind, parameters: int | None = None, linear: int | None = None
) -> Shape:
    """Return the sizes that a configuration says. `parameters` and `linear`, all weights of linear layers, where they were counted."""
    text = config.get_text_config().to_dict()
    named = {**text, **{alias: text[own] for alias, own in config.get_text_config().attribute_map.items() if own in text}}
    width, heads = int(named["hidden_size"]), int(named["num_attention_heads"])
    head_width = int(named.get("head_dim") or width // heads)
    kv_heads = int(named.get("num_key_value_heads") or heads)
    inner = next(
        (int(named[key]) for key in ("intermediate_size", "hidden_dim", "n_inner", "ffn_dim") if named.get(key)), 4 * width
    )
    count = int(named["num_hidden_layers"])
    activation = str(named.get("hidden_activation") or named.get("hidden_act") or named.get("activation_function") or "")
    gated = activation in {"silu", "swiglu"} or named.get("model_type") in {
        "modernbert",
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
    }
    if linear is not None:  # counted is better than known by name
        attention = 2 * width * head_width * (heads + kv_heads)
        gated = (linear / count - attention) / (width * inner) > 2.5
    return Shape(
        name=name,
        kind=kind,
        layers=count,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        inner=inner,
        vocabulary=int(named["vocab_size"]),
        gated=gated,
        tied=kind != "decoder" or bool(named.get("tie_word_embeddings", True)),
        normed_heads=named.get("model_type") in {"qwen3", "gemma3", "gemma3_text", "olmo2"},
        soft_cap=bool(named.get("attn_logit_softcapping")),
        unfused=activation == "gelu_new",
        parameters=parameters,
    )
