"""An ONNX file."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from whet.errors import ModelError, installing
from whet.models.artefact import fold, pooled_head
from whet.models.policy import Policy
from whet.models.save import Card
from whet.plugins import plugin
from whet.protocols import Artefact, Technique

FILE = "model.onnx"
INPUTS = ("input_ids", "attention_mask")
LONGEST_TRACE = 7


@plugin
class Onnx:
    """One ONNX file for onnxruntime and others: a classifier's outputs with its pooling inside, or a decoder's logits. Any number of rows, any length."""

    tolerance: ClassVar[float] = 1e-3
    tensor_tolerance: ClassVar[float] = 0.0

    def write(self, policy: Policy, technique: Technique, card: Card, folder: Path) -> None:
        _onnxruntime()
        head = pooled_head(policy)
        if policy.kind == "encoder-decoder":
            raise ModelError(
                "ONNX is written for encoders and decoders, and this run is an encoder-decoder's. Export it as merged."
            )
        fold(policy, technique, card)
        network = policy.network
        network.set_attn_implementation("sdpa")
        whole: nn.Module = _Logits(network) if head is None else _Pooled(network, head.layer, policy.kind == "decoder")
        ids = torch.arange(2 * LONGEST_TRACE).view(2, LONGEST_TRACE) % int(network.config.get_text_config().vocab_size)
        mask = torch.ones_like(ids)
        mask[1, LONGEST_TRACE - 2 :] = 0
        sizes = {0: "batch", 1: "tokens"}
        with _quiet(), torch.no_grad():
            made: Any = torch.onnx.export(
                whole.eval(),
                (),
                kwargs=dict(zip(INPUTS, (ids, mask), strict=True)),
                dynamo=True,
                dynamic_shapes=dict.fromkeys(INPUTS, sizes),
                input_names=list(INPUTS),
                output_names=["logits"],
                verbose=False,
            )
            made.save(str(folder / FILE))
        policy.tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(_readme(() if head is None else head.labels, head is not None), encoding="utf-8")

    def read(self, folder: Path) -> Artefact:
        runtime = _onnxruntime()
        session = runtime.InferenceSession(str(folder / FILE), providers=["CPUExecutionProvider"])
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        return _InOnnx(session, tokenizer, f"onnxruntime {runtime.__version__}")


class _Logits(nn.Module):
    def __init__(self, network: PreTrainedModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.network(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
        return logits


class _Pooled(nn.Module):
    def __init__(self, network: PreTrainedModel, head: nn.Linear, last: bool) -> None:
        super().__init__()
        self.network, self.head, self.last = network.base_model, head, last

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        more = {"use_cache": False} if self.last else {}
        states = self.network(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state  # [B, T, D]
        mask = attention_mask.to(states.dtype)
        if self.last:  # rows are padded on the right: the last token is the one with number sum(mask) - 1
            place = torch.arange(mask.shape[1]) == attention_mask.sum(1, keepdim=True) - 1
            mask = place.to(states.dtype)
        pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        scores: Tensor = self.head(pooled)
        return scores


class _InOnnx:
    """The file in onnxruntime, two rows at a time, so that padding and batches are tried too."""

    def __init__(self, session: Any, tokenizer: PreTrainedTokenizerBase, runtime: str) -> None:
        self.session, self.tokenizer, self.runtime = session, tokenizer, runtime
        self.chat_template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None
        self.tensors: dict[str, Tensor] = {}
        self.notes = ("rows of different lengths are padded on the right, with 0 in attention_mask",)

    def encode(self, text: str, pair: str | None, special_tokens: bool) -> list[int]:
        ids: Any = self.tokenizer(text, pair, add_special_tokens=special_tokens, verbose=False)["input_ids"]
        return list(ids)

    def outputs(self, rows: Sequence[Tensor], sources: Sequence[Tensor] = ()) -> list[Tensor]:
        found: list[Tensor] = []
        for start in range(0, len(rows), 2):
            two = list(rows[start : start + 2])
            ids = nn.utils.rnn.pad_sequence(two, batch_first=True)
            mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in two], batch_first=True)
            feeds = dict(zip(INPUTS, (ids.numpy(), mask.numpy()), strict=True))
            out = torch.tensor(self.session.run(["logits"], feeds)[0])
            found += [one[: len(row)] if one.ndim == 2 else one for one, row in zip(out, two, strict=True)]
        return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within this, the exporter's notes on its own progress are not shown."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _onnxruntime() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ModelError(f"writing ONNX needs {error.name}, which is not installed. Run: {installing('export')}") from None
    return onnxruntime


def _readme(labels: Sequence[str], classifier: bool) -> str:
    what = f"`logits` [batch, {len(labels)}]: {', '.join(labels)}" if classifier else "`logits` [batch, tokens, vocabulary]"
    return f"""# A tuned model in ONNX

Inputs `input_ids` and `attention_mask`, both [batch, tokens] of int64, padded on the right; output {what}.

```python
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
session = onnxruntime.InferenceSession("FOLDER/{FILE}")
batch = tokenizer(["some text"], return_tensors="np")
logits = session.run(["logits"], {{name: batch[name].astype("int64") for name in ("input_ids", "attention_mask")}})[0]
```

`manifest.json` says which run it is from, and how it was compared with that run.
"""
