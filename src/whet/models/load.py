"""Loads a base model as a policy: a built-in one, a folder, or a Hugging Face id. What goes wrong is said in a plain word.

Never runs code from a model (`auto_map`), and reads safetensors only.
"""

from __future__ import annotations

import functools
import json
import math
import os
import socket
import urllib.request
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import safetensors
import torch
import transformers
from huggingface_hub import errors as hub_errors
from huggingface_hub.constants import ENDPOINT
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.utils import cached_file

from whet.display import brief
from whet.engine.attention import NAME, packed
from whet.engine.cut import pack
from whet.engine.machine import device, keep_pages
from whet.errors import ModelError
from whet.models.builtin import builtin_folder, model_hash
from whet.models.compressed import COMPRESSED, load_dense, restore_rounded
from whet.models.policy import Ability, Kind, Policy, Source
from whet.models.template import PLAIN_TEMPLATE
from whet.types import Row

TOLERANCE = 1e-4
"""Largest difference between packed and separate rows, over the spread of the output, for an architecture to be packed."""
MASKED = (
    "Name an encoder that was saved with one, such as google-bert/bert-base-uncased, answerdotai/ModernBERT-base, or a folder."
)
KINDS: dict[Kind, str] = {"encoder": "an encoder", "decoder": "a decoder", "encoder-decoder": "an encoder-decoder"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")


def load_policy(name: str, *, masked: bool = False) -> Policy:
    """Return the base model called `name` in fp32, probed; an encoder with its masked-language head if `masked`. Raises ModelError."""
    keep_pages()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    place = _place(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = _explained(name, lambda: AutoConfig.from_pretrained(place, **_options(place)))
        tokenizer = _tokenizer(name, place)
        kind = _kind(name, config)
        _check_config(name, place, config, tokenizer)
        if masked and kind != "encoder":
            raise ModelError(f"{name}: {KINDS[kind]}, which has no masked-language head. {MASKED}")
        network = _network(name, place, kind, masked)
    folder = source_folder(name)
    source = Source(source_name(name), folder, model_hash(folder))
    network.eval()
    network.requires_grad_(False)
    _check_vocabulary(name, tokenizer, network)
    if kind == "decoder" and tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    ability = probe_two_sided(network, name) if kind == "encoder-decoder" else probe(network, kind)
    if (folder / COMPRESSED).is_file():
        restore_rounded(network, folder)
    policy = Policy(network.to(device()), tokenizer, kind, source, ability)
    if policy.context < 2:
        raise ModelError(
            f"{name}: its files say that it reads {policy.context} tokens at most. Mend max_position_embeddings in config.json, or "
            "model_max_length in tokenizer_config.json."
        )
    if kind == "encoder-decoder":
        policy.start_id  # noqa: B018  # raises where there is none
    return policy


def source_name(name: str) -> str:
    """Return how a model folder's card calls the base model `name`."""
    return name if name.startswith("builtin:") else _place(name)


def probe(network: PreTrainedModel, kind: Kind) -> Ability:
    """Try the architecture on three short rows: does packing give what separate rows give, and is its head a plain product?"""
    config = network.config.get_text_config()
    generator = torch.Generator().manual_seed(0)
    lengths = (5, 9, 9)
    low, high = min(10, config.vocab_size - 1), config.vocab_size
    rows = [torch.randint(low, high, (length,), generator=generator) for length in lengths]
    body = network.base_model
    with torch.no_grad():
        own = torch.cat([body(input_ids=row[None], use_cache=False).last_hidden_state[0] for row in rows])
        if not torch.isfinite(own).all():
            raise ModelError(
                f"{config._name_or_path}: its weights give numbers that are not finite. Save or download the model again."
            )
        plain = kind != "decoder" or _plain_head(network, rows[0])
        default = config._attn_implementation
        network.set_attn_implementation(NAME)
        batch = pack([Row(index, row) for index, row in enumerate(rows)])
        try:
            with packed(lengths):
                out = body(input_ids=batch.ids[None], position_ids=batch.positions[None], use_cache=False).last_hidden_state[0]
            difference = float((out - own).abs().max() / own.std())
        except (RuntimeError, TypeError, ValueError, IndexError):
            difference = float("inf")
    if not difference <= TOLERANCE:  # nan too
        network.set_attn_implementation(default)
    return Ability(packs=difference <= TOLERANCE, difference=difference, plain_head=plain)


def probe_two_sided(network: PreTrainedModel, name: str = "the model") -> Ability:
    """Try an encoder-decoder: do encoder and decoder, asked one after the other, give the network's own logits, and by which scale?

    Raises ModelError where they cannot be asked so. Its rows are padded, never packed.
    """
    config = network.config.get_text_config()
    generator = torch.Generator().manual_seed(0)
    low, high = min(10, config.vocab_size - 1), config.vocab_size
    source, target = (torch.randint(low, high, (1, length), generator=generator) for length in (9, 5))
    try:
        with torch.no_grad():
            logits = network(input_ids=source, decoder_input_ids=target, use_cache=False).logits
            mask = torch.ones_like(source)
            read = network.get_encoder()(input_ids=source, attention_mask=mask).last_hidden_state
            states = network.get_decoder()(
                input_ids=target,
                attention_mask=torch.ones_like(target),
                encoder_hidden_states=read,
                encoder_attention_mask=mask,
                use_cache=False,
            ).last_hidden_state
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise ModelError(
            f"{name}: its encoder and decoder ('{config.model_type}') cannot be asked one after the other ({reason}). Name a T5, BART, "
            "Pegasus, Marian or another text encoder-decoder."
        ) from None
    if not torch.isfinite(logits).all():
        raise ModelError(f"{name}: its weights give numbers that are not finite. Save or download the model again.")
    for scale in (1.0, float(config.hidden_size) ** -0.5):
        ability = Ability(packs=False, difference=math.inf, plain_head=True, scale=scale)
        if _is_plain(network, states, logits, ability):
            return ability
    return Ability(packs=False, difference=math.inf, plain_head=False)


def _is_plain(network: PreTrainedModel, states: torch.Tensor, logits: torch.Tensor, ability: Ability) -> bool:
    """Whether the output embedding times these states, scaled, with the bias beside it, gives the network's own logits."""
    head = network.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear) or head.in_features != states.shape[-1]:
        return False
    made = head(states * ability.scale)
    beside = dict(network.named_buffers(recurse=False)).get("final_logits_bias")
    made = made if beside is None else made + beside
    return made.shape == logits.shape and bool((made - logits).abs().max() <= TOLERANCE * logits.std())


def _plain_head(network: PreTrainedModel, row: torch.Tensor) -> bool:
    head = network.get_output_embeddings()
    if head is None or not isinstance(head, torch.nn.Linear):
        return False
    logits = network(input_ids=row[None], use_cache=False).logits
    made = head(network.base_model(input_ids=row[None], use_cache=False).last_hidden_state)
    cap = getattr(network.config.get_text_config(), "final_logit_softcapping", None)
    made = cap * torch.tanh(made / cap) if cap is not None else made
    return bool((made - logits).abs().max() <= TOLERANCE * logits.std())


def _place(name: str) -> str:
    if name.startswith("builtin:"):
        return str(builtin_folder(name.removeprefix("builtin:")))
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"{name}: this folder has no config.json, so it is no model. Name a folder that `save_pretrained` wrote."
            )
        if not any(path.glob("*.safetensors")):
            raise ModelError(
                f"{name}: this folder has no .safetensors file. Weights are read from safetensors only; convert them first."
            )
        return str(path)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(
            f"{name}: there is no such model folder. Allowed: builtin:minilm, builtin:seedling, a folder, or a Hugging Face id."
        )
    return name


def source_folder(name: str) -> Path:
    """Return the local folder of a base model's files; of a hub model, its snapshot in the cache. Raises ModelError."""
    place = _place(name)
    return Path(place) if Path(place).is_dir() else _snapshot(name)


def _options(place: str) -> dict[str, bool]:
    """Return how any part of a model is loaded: no code of its own, and nothing asked of a hub that cannot be reached."""
    return {"trust_remote_code": False, "local_files_only": not Path(place).is_dir() and not _hub_is_found()}


@functools.cache
def _hub_is_found() -> bool:
    """Whether the hub's name resolves, or a proxy stands before it. Without a network its own client tries for half a minute."""
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def _snapshot(name: str) -> Path:
    """Return the folder in the hub's cache that a model was just loaded from."""
    return Path(_explained(name, lambda: cached_file(name, "config.json", local_files_only=True))).parent


def _explained(name: str, load):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Call `load`, and turn the hub's and transformers' errors into one plain sentence."""
    try:
        return load()
    except Exception as error:  # a damaged file ends in anything: SafetensorError, TypeError, tokenizers' own bare Exception
        raise ModelError(_reason(name, error)) from None


def _reason(name: str, error: BaseException) -> str:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(chain) < 8:
        chain.append(current)
        current = current.__cause__ or current.__context__
    allowed = "Allowed: builtin:minilm, builtin:seedling, a folder, or a Hugging Face id."
    if any(isinstance(link, hub_errors.GatedRepoError) for link in chain):
        token = "your token has no access to it" if os.environ.get("HF_TOKEN") else "no token is set"
        return f"{name}: this model is gated and {token}. Accept its terms on its page, then run: hf auth login"
    if any(isinstance(link, hub_errors.RepositoryNotFoundError) for link in chain):
        return f"{name}: the hub has no such model, or it is private. Check the spelling; for a private one run: hf auth login. {allowed}"
    text = " ".join(str(link) for link in chain)
    if "trust_remote_code" in text or "custom code" in text:
        return f"{name}: this model brings code of its own, which is never run. Choose one that transformers knows by itself."
    if Path(name).is_dir() or name.startswith("builtin:"):
        return f"{name}: transformers cannot load it: {next(iter(str(error).splitlines()), type(error).__name__)[:200]}"
    return f"{name}: not in the local cache, and the hub cannot be reached or has no such model. Check the spelling and the network. {allowed}"


def _tokenizer(name: str, place: str) -> PreTrainedTokenizerBase:
    folder = Path(place)
    if folder.is_dir() and not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ModelError(
            f"{name}: this folder has no tokenizer (none of {', '.join(TOKENIZER_FILES)}). Copy the base model's into it."
        )
    tokenizer: PreTrainedTokenizerBase = _explained(name, lambda: AutoTokenizer.from_pretrained(place, **_options(place)))
    return tokenizer


def _check_config(name: str, place: str, config: transformers.PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError for what cannot be loaded, before anything is built."""
    if getattr(config, "quantization_config", None):
        raise ModelError(
            f"{name}: its weights are quantised (quantization_config in config.json). Name the model that they were made of; "
            "technique 'qlora' quantises it by itself."
        )
    longest = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float):
        raise ModelError(f"{name}: model_max_length in tokenizer_config.json is {brief(repr(longest))}, and must be a number.")
    if not Path(place).is_dir():
        return
    folder = Path(place)
    for index in folder.glob("*.index.json"):
        named = _index(name, index)
        outside = next((file for file in named if Path(file).name != file), None)
        if outside is not None:
            raise ModelError(
                f"{name}: {index.name} names a file outside the model's folder: {brief(outside)}. Download it again."
            )
    num_layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if not (folder / COMPRESSED).is_file() and isinstance(num_layers, int) and num_layers > 1000:
        num_tensors = 0
        for file in folder.glob("*.safetensors"):
            with safetensors.safe_open(file, "pt") as opened:
                num_tensors += len(opened.keys())
        if num_layers > num_tensors:
            raise ModelError(
                f"{name}: config.json says {num_layers:,} layers, and the weights are {num_tensors:,} tensors. They do not belong "
                "together; copy both from one model."
            )


def _index(name: str, file: Path) -> list[str]:
    try:
        return [str(value) for value in dict(json.loads(file.read_text(encoding="utf-8"))["weight_map"]).values()]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{name}: {file.name} is damaged ({brief(str(error))}). Download the model again.") from None


def _check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, network: PreTrainedModel) -> None:
    """Raise ModelError where a token has no row in the embedding."""
    num_rows, highest = len(network.get_input_embeddings().weight), max(tokenizer.get_vocab().values(), default=-1)
    if highest >= num_rows:
        raise ModelError(
            f"{name}: its tokenizer has tokens up to number {highest:,}, and its weights have rows for {num_rows:,} only. "
            "They do not belong together; copy both from one model."
        )


def _kind(name: str, config: transformers.PretrainedConfig) -> Kind:
    if config.is_encoder_decoder:
        if config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
            return "encoder-decoder"
        raise ModelError(
            f"{name}: architecture '{config.model_type}' is an encoder-decoder that transformers has no text head for."
        )
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        return "encoder"
    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "decoder"
    raise ModelError(
        f"{name}: architecture '{config.model_type}' is neither an encoder with masked-language weights, nor a causal decoder, nor an "
        "encoder-decoder."
    )


def _network(name: str, place: str, kind: Kind, masked: bool) -> PreTrainedModel:
    classes = {"decoder": AutoModelForCausalLM, "encoder-decoder": AutoModelForSeq2SeqLM, "encoder": AutoModel}
    cls = AutoModelForMaskedLM if masked else classes[kind]
    extra = {} if kind != "encoder" or masked else {"add_pooling_layer": False}

    def load() -> tuple[PreTrainedModel, dict[str, Any]]:
        if (Path(place) / COMPRESSED).is_file():
            return _from_compressed(cls, Path(place), extra)
        options = _options(place)
        adapter = {"local_files_only": options["local_files_only"]}  # else its search for one asks a hub that is not there
        common = {
            "dtype": torch.float32,
            "use_safetensors": True,
            "output_loading_info": True,
            "adapter_kwargs": adapter,
            **options,
        }
        try:
            loaded: tuple[PreTrainedModel, dict[str, Any]] = cls.from_pretrained(place, **common, **extra)
        except TypeError:  # an encoder without a pooler to leave out
            loaded = cls.from_pretrained(place, **common)
        return loaded

    network, found = _explained(name, load)
    missing = sorted(found["missing_keys"])
    if missing and masked:
        raise ModelError(
            f"{name}: its files have no masked-language head ({missing[0]} is missing, and would be random). {MASKED}"
        )
    if missing:
        raise ModelError(
            f"{name}: its files lack {len(missing)} of the weights of a {type(network).__name__}, such as {missing[0]}, "
            "which would be random. Name a complete model, and for objectives that write text one with an output head."
        )
    return network


def _from_compressed(cls: Any, folder: Path, extra: Mapping[str, Any]) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Return a network with the numbers of a compressed file as plain weights, and which of them are missing."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    try:
        network = cls.from_config(config, dtype=torch.float32, **extra)
    except TypeError:  # an encoder without a pooler to leave out
        network = cls.from_config(config, dtype=torch.float32)
    missing, unexpected = network.load_state_dict(load_dense(folder), strict=False)
    network.tie_weights()
    tied = set(network.all_tied_weights_keys or ())
    return network, {"missing_keys": [*(name for name in missing if name not in tied), *unexpected]}
