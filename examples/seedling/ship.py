"""Puts a trained seedling into the package in 16 bits, measures what is shipped, and writes its card and loss curve."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

import whet
from whet import plugins
from whet.data.dataset import read_dataset
from whet.engine.generate import Sampling, generate
from whet.models.builtin import weights_hash
from whet.models.load import load_policy
from whet.models.policy import Policy
from whet.run import Run, open_run
from whet.stats import bootstrap, stack

SHIPPED = Path("src/whet/models/seedling")
CURVE = Path("docs/images/seedling-loss.svg")
SAMPLING = {"temperature": 0.8, "top_p": 0.95}
STATEMENT = Path("build/seedling/statement.json")
CARD = Path("examples/seedling/card.md")


def copy_model(run: Run) -> None:
    """Write the run's weights in bf16, its configuration and its tokenizer into the package."""
    predictor = whet.load(run)
    network = predictor.tuned.policy.network.to(torch.bfloat16)
    tied = set(network.all_tied_weights_keys or ())
    SHIPPED.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items() if name not in tied}
    save_file(tensors, SHIPPED / "model.safetensors", metadata={"format": "pt"})
    network.config.save_pretrained(SHIPPED)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (run.model / name).is_file():
            shutil.copyfile(run.model / name, SHIPPED / name)


def bits_per_character(policy: Policy, run: Run) -> str:
    """Return the shipped model's bits per character on the held-out stories, with n and interval."""
    stories = read_dataset(run.path).test
    objective = plugins.build("objectives", "pretrain", {})
    metric = plugins.build("metrics", "bits_per_character", {})
    outputs = objective.outputs(policy, stories, policy.context)
    statistics = stack([metric.statistics(story, output) for story, output in zip(stories, outputs, strict=True)])
    score = bootstrap(metric.reduce, statistics)
    return f"{score.value:.3f} bits per character ({score.low:.3f}-{score.high:.3f}, n = {score.n} stories)"


def samples(policy: Policy) -> list[str]:
    """Return ten texts from the beginning-of-text token alone, seeds 0 to 9, none left out."""
    tokenizer = policy.tokenizer
    texts = []
    for seed in range(10):
        ids = next(generate(policy, [[tokenizer.bos_token_id]], 120, frozenset({policy.end_id}), Sampling(**SAMPLING, seed=seed)))
        texts.append(tokenizer.decode(ids))
    return texts


def loss_curve(run: Run) -> str:
    """Return a picture of the training loss at each step and the validation losses, in nats per token."""
    width, height, left, base = 640, 300, 44, 268
    steps = [(record["step"], record["loss"]) for record in run.records() if record["kind"] == "step"]
    judged = [(record["step"], record["loss"]) for record in run.records() if record["kind"] == "validation"]
    highest, last = max(loss for _, loss in steps), steps[-1][0]

    def place(step: int, loss: float) -> tuple[float, float]:
        return left + (width - left - 12) * step / last, base - (base - 16) * loss / highest

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*one) for one in steps))
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#b9652b"/>' for x, y in (place(*one) for one in judged))
    marks = "".join(
        f'<text x="{left - 8}" y="{place(0, loss)[1] + 4:.1f}" text-anchor="end">{loss}</text>'
        f'<line x1="{left}" x2="{width}" y1="{place(0, loss)[1]:.1f}" y2="{place(0, loss)[1]:.1f}" stroke="#ddd"/>'
        for loss in range(0, int(highest) + 1, 2)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="#444">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{marks}'
        f'<polyline points="{line}" fill="none" stroke="#0b6e6e" stroke-width="1.5"/>{dots}'
        f'<text x="{width}" y="{height - 8}" text-anchor="end">step {last}</text>'
        f'<text x="{left}" y="{height - 8}">nats per token: training (line), validation (dots)</text></svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = open_run(parser.parse_args().run)
    copy_model(run)
    shutil.copyfile(STATEMENT, CARD.parent / STATEMENT.name)
    policy = load_policy(str(SHIPPED))
    CURVE.parent.mkdir(parents=True, exist_ok=True)
    CURVE.write_text(loss_curve(run), encoding="utf-8")
    manifest = run.manifest
    written = "\n\n".join(f"**{number}.** {' '.join(text.split())}" for number, text in enumerate(samples(policy), 1))
    facts = {
        "PARAMETERS": f"{policy.num_parameters:,}",
        "BYTES": f"{(SHIPPED / 'model.safetensors').stat().st_size:,}",
        "SHA256": weights_hash(SHIPPED),
        "HELDOUT": bits_per_character(policy, run),
        "STEPS": f"{manifest['plan']['num_steps']:,}",
        "TOKENS": f"{manifest['actual']['tokens']:,}",
        "MINUTES": f"{manifest['actual']['train_s'] / 60:.0f}",
        "DATA": manifest["data_sha256"],
        "SAMPLES": written,
    }
    card = CARD.read_text(encoding="utf-8")
    for name, value in facts.items():
        card = card.replace(f"@{name}@", value)
    (SHIPPED / "README.md").write_text(card, encoding="utf-8")
    print(json.dumps({name: value for name, value in facts.items() if name != "SAMPLES"}, indent=2))


if __name__ == "__main__":
    main()
