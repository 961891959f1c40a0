"""A plain model folder."""

import inspect
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from whet.models.artefact import InTransformers, fold, loaded_with, pooled_head, standard_classifier
from whet.models.policy import Kind, Policy
from whet.models.save import Card
from whet.models.tensors import load_tensors, save_tensors
from whet.plugins import plugin
from whet.protocols import Artefact, Technique

HEAD = "head.safetensors"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCES = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.02}
TENSORS = {"fp32": 0.0, "bf16": 2.0**-8, "fp16": 2.0**-11}
"""Half of the last digit of each number, over its size."""


@plugin
class Merged:
    """Whole weights in safetensors, the technique merged: a folder that transformers, vLLM and others load.

    A classifier becomes a *ForSequenceClassification where the architecture has one that computes the same numbers; else its head lies
    beside the network in head.safetensors, and README.md says how to use it.
    """

    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numbers of the file. bf16 and fp16 take half the room and lose digits."""

    @property
    def tolerance(self) -> float:
        return TOLERANCES[self.dtype]

    @property
    def tensor_tolerance(self) -> float:
        return TENSORS[self.dtype]

    def write(self, policy: Policy, technique: Technique, card: Card, folder: Path) -> None:
        disable_progress_bar()
        head = pooled_head(policy)
        fold(policy, technique, card)
        network = policy.network
        standard = standard_classifier(policy, card) if head is not None else None
        if head is not None and standard is None:
            save_tensors({"weight": head.layer.weight, "bias": head.layer.bias}, folder / HEAD)
        chosen = (network if standard is None else standard).to(DTYPES[self.dtype])
        chosen.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)
        how = (
            _with_head(policy.kind, head.labels)
            if head is not None and standard is None
            else _plain(standard is not None, policy.kind)
        )
        (folder / "README.md").write_text(how, encoding="utf-8")

    def read(self, folder: Path) -> Artefact:
        disable_progress_bar()
        place = str(folder)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        if (folder / HEAD).is_file():
            tensors = load_tensors(folder / HEAD)
            head = nn.Linear(tensors["weight"].shape[1], tensors["weight"].shape[0])
            head.load_state_dict(tensors)
            network = loaded_with(AutoModel, place, **_without_pooler(place))
            note = f"transformers has no classifier of this architecture that computes the same numbers; README.md says how to use {HEAD}"
            return InTransformers(network, tokenizer, _kind(network.config.model_type), head.requires_grad_(False), notes=(note,))
        if AutoConfig.from_pretrained(place, trust_remote_code=False).is_encoder_decoder:
            return InTransformers(loaded_with(AutoModelForSeq2SeqLM, place), tokenizer, "encoder-decoder", None)
        config_text = (folder / "config.json").read_text(encoding="utf-8")
        cls = AutoModelForSequenceClassification if "ForSequenceClassification" in config_text else AutoModelForCausalLM
        return InTransformers(loaded_with(cls, place), tokenizer, "decoder", None)


def _kind(model_type: str) -> Kind:
    return "encoder" if model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES else "decoder"


def _without_pooler(place: str) -> dict[str, bool]:
    """Return how to leave out a pooler that has no weights here, where the architecture knows one."""
    config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    cls = AutoModel._model_mapping[type(config)]
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(cls.__init__).parameters else {}


def _plain(classifier: bool, kind: Kind) -> str:
    writer = "AutoModelForSeq2SeqLM" if kind == "encoder-decoder" else "AutoModelForCausalLM"
    cls = "AutoModelForSequenceClassification" if classifier else writer
    return f"""# A tuned model, merged

Load it with transformers:

```python
from transformers import AutoTokenizer, {cls}

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = {cls}.from_pretrained("FOLDER")
```

`manifest.json` says which run it is from, and how it was compared with that run.
"""


def _with_head(kind: Kind, labels: tuple[str, ...]) -> str:
    pooling = "mean of its tokens" if kind == "encoder" else "last token"
    pool = (
        "(states * mask).sum(1) / mask.sum(1)"
        if kind == "encoder"
        else "states[range(len(states)), mask[..., 0].sum(1).long() - 1]"
    )
    return f"""# A tuned classifier, merged

The network is a plain model; the classifier is one linear layer on the {pooling}, in `{HEAD}`. transformers has no class for
that of this architecture, so put the two together:

```python
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

LABELS = {list(labels)!r}
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModel.from_pretrained("FOLDER")
head = load_file("FOLDER/{HEAD}")

batch = tokenizer(["some text"], return_tensors="pt"{", padding=True" if kind == "encoder" else ""})
with torch.no_grad():
    states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"][:, :, None].to(states.dtype)
    logits = {pool} @ head["weight"].T + head["bias"]
print(LABELS[logits.argmax(-1)[0]])
```

`manifest.json` says which run it is from, and how it was compared with that run.
"""
