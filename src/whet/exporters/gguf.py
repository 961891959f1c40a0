"""A GGUF file."""

import importlib.metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from whet.errors import ModelError, installing
from whet.models.artefact import InTransformers, fold, pooled_head
from whet.models.gguf_tokenizer import GgufTokenizer, describe_tokenizer, rebuild_tokenizer
from whet.models.policy import Policy
from whet.models.save import Card
from whet.models.template import stop_ids
from whet.plugins import plugin
from whet.protocols import Artefact, Technique

FILE = "model.gguf"
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""Architecture in transformers to its name in GGUF."""
TURNED = {"llama"}
"""Of these, GGUF has the rows of queries and keys in another order: the two halves of a head's rotation interleaved."""
BLOCK = 32
"""Weights that share a scale in Q8_0; rows that it does not divide stay F16."""


@plugin
class Gguf:
    """One GGUF file for llama.cpp, Ollama and others: Llama, Mistral, Qwen 2 and 3, with tokenizer and chat template. Read back and compared tensor by tensor."""

    type: Literal["f32", "f16", "q8_0"] = "f16"
    """Numbers of the matrices: f32, f16, or q8_0 (8 bits with a scale for 32 of them). Vectors stay f32."""

    @property
    def tolerance(self) -> float:
        return {"f32": 1e-4, "f16": 0.02, "q8_0": 0.3}[self.type]

    @property
    def tensor_tolerance(self) -> float:
        # f16 rounds to 11 digits; q8_0 to half a step of 1/127 of its block's largest, whose scale is f16 again
        return {"f32": 0.0, "f16": 2.0**-11, "q8_0": 0.5 / 127 + 2.0**-10}[self.type]

    def write(self, policy: Policy, technique: Technique, card: Card, folder: Path) -> None:
        gguf = _gguf()
        config = policy.network.config
        if pooled_head(policy) is not None or policy.kind != "decoder":
            raise ModelError(
                f"GGUF is written for models that write text, and this run is of '{card.objective}' on a model of kind {policy.kind}. Export it as merged or onnx."
            )
        if config.model_type not in ARCHITECTURES:
            raise ModelError(
                f"GGUF is written for {', '.join(ARCHITECTURES)}, and this model's architecture is {config.model_type}. Export it as merged or onnx."
            )
        _refuse_special(policy)
        said = describe_tokenizer(policy.tokenizer, policy.network.get_input_embeddings().weight.shape[0])
        fold(policy, technique, card)
        name = ARCHITECTURES[config.model_type]
        writer = gguf.GGUFWriter(folder / FILE, name)
        try:
            _write_settings(writer, policy, {"f32": 0, "f16": 1, "q8_0": 7}[self.type])
            _write_tokenizer(writer, policy, said, card)
            for place, tensor in _named(gguf, policy.network, name).items():
                array = tensor.detach().float().cpu().contiguous().numpy()
                if array.ndim > 1 and self.type == "q8_0" and array.shape[-1] % BLOCK == 0:
                    kind = gguf.GGMLQuantizationType.Q8_0
                    writer.add_tensor(place, gguf.quants.quantize(array, kind), raw_dtype=kind)
                else:
                    writer.add_tensor(place, array.astype("float16") if array.ndim > 1 and self.type != "f32" else array)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()

    def read(self, folder: Path) -> Artefact:
        gguf = _gguf()
        reader = gguf.GGUFReader(folder / FILE)
        said = {name: field.contents() for name, field in reader.fields.items()}
        config = _config(said, [tensor.name for tensor in reader.tensors])
        network: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        found = {
            tensor.name: torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type)).float()
            for tensor in reader.tensors
        }
        tensors = _plain(gguf, network, said["general.architecture"], found)
        network.load_state_dict(tensors, strict=False)
        network.requires_grad_(False).tie_weights()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=rebuild_tokenizer(_tokenizer_said(said)))
        tokenizer.chat_template = said.get("tokenizer.chat_template")
        version = importlib.metadata.version("gguf")
        runtime = f"gguf {version} reader, torch {torch.__version__} with the dequantised tensors"
        return InTransformers(network, tokenizer, "decoder", None, runtime=runtime, tensors=tensors)


def _gguf() -> Any:
    try:
        import gguf
        import gguf.quants
    except ImportError:
        raise ModelError(f"writing GGUF needs the package gguf, which is not installed. Run: {installing('export')}") from None
    return gguf


def _refuse_special(policy: Policy) -> None:
    config = policy.network.config
    rope = (config.rope_parameters or {}).get("rope_type", "default")
    if rope != "default":
        raise ModelError(
            f"GGUF is written for plain rotary positions, and this model's are scaled ({rope}). Export it as merged."
        )
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if window is not None and window < policy.context:
        raise ModelError(
            f"GGUF is written for attention to all that came before, and this model looks back {window:,} tokens of {policy.context:,} only. "
            "Export it as merged."
        )


def _write_settings(writer: Any, policy: Policy, file_type: int) -> None:
    config = policy.network.config
    width = _head_width(config)
    writer.add_name("tuned by whet")
    writer.add_file_type(file_type)
    writer.add_context_length(policy.context)
    writer.add_vocab_size(config.vocab_size)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(width)


def _write_tokenizer(writer: Any, policy: Policy, said: GgufTokenizer, card: Card) -> None:
    tokenizer = policy.tokenizer
    writer.add_tokenizer_model(said.kind)
    writer.add_tokenizer_pre(said.cut)
    writer.add_token_list(said.tokens)
    writer.add_token_types(said.types)
    if said.kind == "gpt2":
        writer.add_token_merges(said.merges)
    else:
        writer.add_token_scores(said.scores)
        writer.add_add_space_prefix(said.space_prefix)
    for number, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (policy.end_id, writer.add_eos_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
    ):
        if number is not None:
            add(number)
    turns = stop_ids(tokenizer) - {policy.end_id}
    if turns:
        writer.add_eot_token_id(min(turns))
    # a conversation is trained exactly as its template renders it, so that no start token may be added in front of it
    ids = tokenizer("a", verbose=False)["input_ids"]
    writer.add_add_bos_token(card.objective == "pretrain" and ids[0] == tokenizer.bos_token_id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _named(gguf: Any, network: PreTrainedModel, name: str) -> dict[str, Tensor]:
    """Return a network's weights by their names in GGUF, in GGUF's order of rows."""
    places = _places(gguf, network, name)
    state = network.state_dict()
    return {place: _turned(state[ours], ours, network.config, name, back=False) for ours, place in places.items()}


def _plain(gguf: Any, network: PreTrainedModel, name: str, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what a file holds by the network's own names, in its own order of rows. Raises ModelError where something is missing."""
    places = _places(gguf, network, name)
    if set(places.values()) != set(found):
        wrong = sorted(set(places.values()) ^ set(found))
        raise ModelError(f"the GGUF file lacks tensors of its architecture, or has others: {', '.join(wrong[:3])}.")
    return {ours: _turned(found[place], ours, network.config, name, back=True) for ours, place in places.items()}


def _places(gguf: Any, network: PreTrainedModel, name: str) -> dict[str, str]:
    architecture = next(number for number, known in gguf.MODEL_ARCH_NAMES.items() if known == name)
    names = gguf.get_tensor_name_map(architecture, network.config.num_hidden_layers)
    tied = set(network.all_tied_weights_keys or ())
    places = {ours: names.get_name(ours, try_suffixes=(".weight", ".bias")) for ours in network.state_dict() if ours not in tied}
    unknown = [ours for ours, place in places.items() if place is None]
    if unknown:
        raise ModelError(f"GGUF has no name for {unknown[0]} in the architecture '{name}'. Export the run as merged.")
    return places


def _turned(tensor: Tensor, ours: str, config: Any, name: str, *, back: bool) -> Tensor:
    """Return the rows of queries and keys in GGUF's order, or back: [half, place] of each head and [place, half]. [H * d, ...]"""
    layer = ours.rpartition(".")[0].rpartition(".")[2]
    if name not in TURNED or layer not in {"q_proj", "k_proj"}:
        return tensor
    heads = config.num_attention_heads if layer == "q_proj" else config.num_key_value_heads
    half = _head_width(config) // 2
    halves = (half, 2) if back else (2, half)
    return tensor.reshape(heads, *halves, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def _head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _config(said: dict[str, Any], names: list[str]) -> Any:
    """Return the configuration that a file's metadata and the names of its tensors describe."""
    name = said["general.architecture"]
    values = {
        "vocab_size": said[f"{name}.vocab_size"],
        "hidden_size": said[f"{name}.embedding_length"],
        "intermediate_size": said[f"{name}.feed_forward_length"],
        "num_hidden_layers": said[f"{name}.block_count"],
        "num_attention_heads": said[f"{name}.attention.head_count"],
        "num_key_value_heads": said[f"{name}.attention.head_count_kv"],
        "head_dim": said[f"{name}.attention.key_length"],
        "max_position_embeddings": said[f"{name}.context_length"],
        "rms_norm_eps": said[f"{name}.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_type": "default", "rope_theta": said[f"{name}.rope.freq_base"]},
        "tie_word_embeddings": "output.weight" not in names,
        "attention_bias": any(place.endswith("attn_q.bias") for place in names),
        "mlp_bias": any(place.endswith("ffn_up.bias") for place in names),
    }
    return AutoConfig.for_model(name, **values)


def _tokenizer_said(said: dict[str, Any]) -> GgufTokenizer:
    prefix = "tokenizer.ggml."
    return GgufTokenizer(
        kind=said[f"{prefix}model"],
        cut=said[f"{prefix}pre"],
        tokens=tuple(said[f"{prefix}tokens"]),
        types=tuple(said[f"{prefix}token_type"]),
        merges=tuple(said.get(f"{prefix}merges", ())),
        scores=tuple(said.get(f"{prefix}scores", ())),
        space_prefix=bool(said.get(f"{prefix}add_space_prefix", False)),
    )
