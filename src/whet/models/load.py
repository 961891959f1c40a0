"""Loads a base model as a policy: a built-in one, a folder, or a Hugging Face id. What goes wrong is said in a plain word.

Never runs code from a model (`auto_map`), and reads safetensors only.
"""

from __future__ import annotations

import functools
import json
import socket
import urllib.request
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import torch
import transformers
from huggingface_hub import errors as hub_errors
from huggingface_hub import get_token
from huggingface_hub.constants import ENDPOINT
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.utils import cached_file

from whet.display import brief
from whet.engine.machine import bound_kernels, device, keep_pages
from whet.engine.pool import pool_tensors
from whet.errors import ModelError
from whet.files import expanded
from whet.models.builtin import builtin_folder, model_hash
from whet.models.compressed import COMPRESSED, load_dense, restore_rounded
from whet.models.fusion import try_fusion
from whet.models.policy import Kind, Policy, Source
from whet.models.probe import check_masked, probe, probe_two_sided
from whet.models.template import PLAIN_TEMPLATE
from whet.models.whole import check_depth, check_files

T = TypeVar("T")
MASKED = (
    "Name an encoder that was saved with one, such as google-bert/bert-base-uncased, answerdotai/ModernBERT-base, or a folder."
)
KINDS: dict[Kind, str] = {"encoder": "an encoder", "decoder": "a decoder", "encoder-decoder": "an encoder-decoder"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")


def load_policy(name: str, *, masked: bool = False, tagging: bool = False) -> Policy:
    """Return the base model called `name` in fp32, probed; an encoder with its masked-language head if `masked`. Raises ModelError.

    If `tagging`, the network has its head for the labels of tokens, and the policy's classes are these labels.
    """
    keep_pages()
    pool_tensors()
    bound_kernels()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    place = _place(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = _explained(name, lambda: AutoConfig.from_pretrained(place, **_options(place)))
        kind = _kind(name, config)
        tokenizer = _tokenizer(name, place)
        _check_config(name, place, config, tokenizer)
        if masked and kind != "encoder":
            raise ModelError(f"{name}: {KINDS[kind]}, which has no masked-language head. {MASKED}")
        if tagging and kind != "encoder":
            raise ModelError(
                f"{name}: {KINDS[kind]}; what labels the tokens of a text is an encoder here. Name a token classification model of one."
            )
        network = _network(name, place, kind, "masked" if masked else "tagging" if tagging else "own")
    folder = source_folder(name)
    source = Source(source_name(name), folder, model_hash(folder))
    network.eval()
    network.requires_grad_(False)
    _check_vocabulary(name, tokenizer, network)
    if kind == "decoder" and tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    ability = probe_two_sided(network, name) if kind == "encoder-decoder" else probe(network, kind, name)
    network.to(device())  # fused steps are tried where they will run
    fusion, unfused = try_fusion(network, ability.first_position) if ability.packs else (None, "only packed networks are fused")
    if (folder / COMPRESSED).is_file():
        restore_rounded(network, folder)
    policy = Policy(network.to(device()), tokenizer, kind, source, replace(ability, unfused=unfused))
    policy.fusion = fusion
    if policy.context < 2:
        raise ModelError(
            f"{name}: its files say that it reads {policy.context} tokens at most. Mend max_position_embeddings in config.json, or "
            "model_max_length in tokenizer_config.json."
        )
    if masked:
        check_masked(policy)
    if tagging:
        policy.classes = tuple(str(network.config.id2label[number]) for number in range(network.config.num_labels))
    if kind == "encoder-decoder":
        policy.start_id  # noqa: B018  # raises where there is none
    return policy


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the base model called `name`, without its network. Raises ModelError."""
    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _tokenizer(name, _place(name))


def source_name(name: str) -> str:
    """Return how a model folder's card calls the base model `name`."""
    return name if name.startswith("builtin:") else _place(name)


def _place(name: str) -> str:
    if name.startswith("builtin:"):
        return str(builtin_folder(name.removeprefix("builtin:")))
    path = expanded(name)
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


def _explained(name: str, load: Callable[[], T]) -> T:
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
        token = "your token has no access to it" if get_token() else "no token is set"
        return f"{name}: this model is gated and {token}. Accept its terms on its page, then run: hf auth login"
    if any(isinstance(link, hub_errors.RepositoryNotFoundError) for link in chain):
        return f"{name}: the hub has no such model, or it is private. Check the spelling; for a private one run: hf auth login. {allowed}"
    text = " ".join(str(link) for link in chain)
    if "does not recognize this architecture" in text:
        return (
            f"{name}: transformers {transformers.__version__} does not know its architecture ({_first(error, 90)}). Choose another model, or "
            "install a transformers that knows it."
        )
    if "ignore_mismatched_sizes" in text:
        return (
            f"{name}: config.json says other sizes than its weights have. They do not belong together; copy both from one model."
        )
    if "trust_remote_code" in text or "custom code" in text:
        return f"{name}: this model brings code of its own, which is never run. Choose one that transformers knows by itself."
    if Path(name).is_dir() or name.startswith("builtin:"):
        return f"{name}: transformers cannot load it: {_first(error, 200)}. Copy or download the model again, whole."
    return f"{name}: not in the local cache, and the hub cannot be reached or has no such model. Check the spelling and the network. {allowed}"


def _first(error: BaseException, length: int) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:length].rstrip(" .")


def _tokenizer(name: str, place: str) -> PreTrainedTokenizerBase:
    folder = Path(place)
    if folder.is_dir() and not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ModelError(
            f"{name}: this folder has no tokenizer (none of {', '.join(TOKENIZER_FILES)}). Copy the base model's into it."
        )
    cls = PreTrainedTokenizerFast if _is_a_file_alone(folder) else AutoTokenizer
    tokenizer: PreTrainedTokenizerBase = _explained(name, lambda: cls.from_pretrained(place, **_options(place)))
    return tokenizer


def _is_a_file_alone(folder: Path) -> bool:
    """Whether a tokenizer is all that its tokenizer.json says. For some architectures AutoTokenizer would put another one in its place."""
    try:
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["tokenizer_class"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return said in {"TokenizersBackend", "PreTrainedTokenizerFast"} and (folder / "tokenizer.json").is_file()


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
    if Path(place).is_dir():
        check_files(name, Path(place))
        if not (Path(place) / COMPRESSED).is_file():
            check_depth(name, Path(place), config)


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


def _network(name: str, place: str, kind: Kind, head: Literal["own", "masked", "tagging"]) -> PreTrainedModel:
    classes = {"decoder": AutoModelForCausalLM, "encoder-decoder": AutoModelForSeq2SeqLM, "encoder": AutoModel}
    cls = {"masked": AutoModelForMaskedLM, "tagging": AutoModelForTokenClassification, "own": classes[kind]}[head]
    extra = {"add_pooling_layer": False} if kind == "encoder" and head == "own" else {}

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
    if missing and head == "tagging":
        raise ModelError(
            f"{name}: its files have no head that labels tokens ({missing[0]} is missing, and would be random). Name a token classification "
            "model, such as one for named entities, or a run of objective 'tokens'."
        )
    if missing and head == "masked":
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
