"""A PEFT adapter."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from whet.errors import ModelError
from whet.models.artefact import InTransformers, loaded_with, pooled_head
from whet.models.builtin import builtin_folder
from whet.models.policy import Kind, Policy
from whet.models.save import Card
from whet.models.tensors import load_tensors, save_tensors
from whet.plugins import plugin
from whet.protocols import Artefact, Technique

CLASSES: dict[Kind, Any] = {
    "encoder": AutoModel,
    "decoder": AutoModelForCausalLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}
KINDS: dict[str, Kind] = {"FEATURE_EXTRACTION": "encoder", "CAUSAL_LM": "decoder", "SEQ_2_SEQ_LM": "encoder-decoder"}
"""PEFT's types of task."""
CONFIG, HEAD = "adapter_config.json", "head.safetensors"


@plugin
class Adapter:
    """What a technique learnt, without the base: a folder that PEFT loads over the base model, with the classifier in head.safetensors."""

    tolerance: ClassVar[float] = 1e-4
    tensor_tolerance: ClassVar[float] = 0.0

    def write(self, policy: Policy, technique: Technique, card: Card, folder: Path) -> None:
        head = pooled_head(policy)
        if not card.compressor:
            technique.save(policy, folder)
        if not (folder / CONFIG).is_file():
            what = (
                f"was compressed with '{card.compressor}'"
                if card.compressor
                else f"was trained with technique '{card.technique}'"
            )
            raise ModelError(f"this run {what}, which leaves no adapter in PEFT's format. Export it as: merged")
        if head is not None:
            save_tensors({"weight": head.layer.weight, "bias": head.layer.bias}, folder / HEAD)
        policy.tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(_readme(policy, card, head is not None), encoding="utf-8")

    def read(self, folder: Path) -> Artefact:
        peft = _peft()
        disable_progress_bar()
        name = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
        place = str(builtin_folder(name.removeprefix("builtin:"))) if name.startswith("builtin:") else name
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        head: nn.Linear | None = None
        if (folder / HEAD).is_file():
            tensors = load_tensors(folder / HEAD)
            head = nn.Linear(tensors["weight"].shape[1], tensors["weight"].shape[0])
            head.load_state_dict(tensors)
            head.requires_grad_(False)
        kind = KINDS[json.loads((folder / CONFIG).read_text(encoding="utf-8"))["task_type"]]
        encoder, bare = kind == "encoder", loaded_with(CLASSES[kind], place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what peft asks transformers
            wrapped: Any = peft.PeftModel.from_pretrained(bare, str(folder)).eval()
        network = wrapped if encoder or head is None else wrapped.get_base_model().base_model
        made = InTransformers(network, tokenizer, kind, head)
        made.runtime = f"peft {peft.__version__}, {made.runtime}"
        if name.startswith("builtin:"):
            made.notes = (
                f"its base is {name}: where whet is not installed, name the folder of that model when loading the adapter",
            )
        return made


def _peft() -> Any:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # which says that a kernel is missing that an adapter does not need
    try:
        import peft
    except ImportError:
        raise ModelError("the adapter is checked with peft, which is not installed. Run: pip install peft") from None
    return peft


def _readme(policy: Policy, card: Card, with_head: bool) -> str:
    cls = CLASSES[policy.kind].__name__
    extra = (
        "\nThe classifier is one linear layer on the mean of an encoder's tokens, or a decoder's last one: `weight` and `bias` in\n"
        f"`{HEAD}`, its classes in this order: {', '.join(policy.classes) or 'one number'}.\n"
        if with_head
        else ""
    )
    return f"""# A tuned adapter

The base model is `{card.source}`, with files of SHA-256 {card.source_sha256[:12]}. Load both with PEFT:

```python
from peft import PeftModel
from transformers import {cls}

model = PeftModel.from_pretrained({cls}.from_pretrained("BASE"), "FOLDER")
```
{extra}
`manifest.json` says which run it is from, and how it was compared with that run.
"""
