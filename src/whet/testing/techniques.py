"""The laws of a technique, for the built-in ones and for your own.

A law is a function of (technique, build_policy, objective, examples) that raises AssertionError. `build_policy` gives the same
fresh policy at each call, whose `source.name` is a model folder, so that what is saved can be loaded over its base again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from whet.engine import checkpoint
from whet.engine.cut import cut, pack
from whet.engine.fit import Training, validate
from whet.engine.generate import generate
from whet.engine.state_store import StateStore
from whet.engine.targets import never_written, target_start, written_targets
from whet.errors import ModelError
from whet.models.frozen import Bottom, Frozen, frozen_bottom, obstacle, why_not_kept
from whet.models.policy import Policy
from whet.models.save import Card, load_tuned, save_policy
from whet.protocols import Objective, Sized, Technique
from whet.testing.agreement import same_slope
from whet.testing.steps import ALL_TOKENS, BuildPolicy, same_bytes, slope, tiny_plan, train, whole_step
from whet.testing.tiny import as_float64
from whet.types import Cursor, Example, Row

MERGED = 1e-5
"""Largest difference of merged from unmerged, over the spread of the output."""
KEPT = 1e-5
"""Largest difference of losses with kept states from those without, over the loss, where sums are rounded in another order."""
RATE, LEAST_RATE = 1e-2, 3e-3
NUM_WRITTEN, NEAR = 6, 1e-4
"""Tokens that are generated, and how far below the best score one may lie: two sums of the same numbers differ."""

TechniqueLaw = Callable[[Technique, BuildPolicy, Objective, Sequence[Example]], None]


def check_technique(technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]) -> None:
    """Raise AssertionError at the first law that does not hold. A class with `identity = False` may change the output at attach."""
    for law in TECHNIQUE_LAWS:
        law(technique, build_policy, objective, examples)


def what_follows_from_the_rows_is_its_own_setting(
    technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """Where it is Sized, it names settings which are `auto`, with values that it takes and a reason; and then nothing is left to say."""
    if not isinstance(technique, Sized):
        return
    policy = _prepared(build_policy, objective, examples)
    for bits in (1.0, 1e12):
        found = technique.sized(policy, bits)
        wrong = sorted(name for name in found if getattr(technique, name, None) != "auto")
        assert not wrong, f"sized() sets {wrong}, which are not auto"
        assert all(why for _, why in found.values()), "sized() sets a number without a reason"
        again = replace(technique, **{name: value for name, (value, _) in found.items()})  # type: ignore[type-var]
        assert not again.sized(policy, bits), "sized() has something to say of numbers that are set"
        again.attach(_prepared(build_policy, objective, examples), seed=0)  # raises where it cannot be what it chose


def attaching_changes_no_output(
    technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """Before the first step the model computes what it did: the same bits. Unless the class says otherwise."""
    if not getattr(technique, "identity", True):  # a plugin need not inherit the protocol and its defaults
        return
    plain = _prepared(build_policy, objective, examples)
    before = outputs(plain, objective, examples)
    attached = _attached(technique, build_policy, objective, examples)
    change = float((outputs(attached, objective, examples) - before).abs().max())
    assert change == 0.0, f"attaching changes the last hidden states by {change:.3g}"


def same_seed_same_start(
    technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """What is drawn at attach depends on the seed alone."""
    first, again = (_tensors(_attached(technique, build_policy, objective, examples)) for _ in range(2))
    different = same_bytes(first, again)
    assert not different, f"attached twice with the same seed, {different[:3]} begin with other values; draw them from the seed"


def only_trainable_weights_move(
    technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """Something learns; what gets a gradient moves, and nothing else changes a bit."""
    policy = _attached(technique, build_policy, objective, examples)
    trainable = {name for name, _ in policy.trainable()}
    assert trainable, "nothing learns after attach()"
    found = slope(objective, policy, whole_step(objective, policy, examples))
    pulled = {name for name, gradient in found.gradients.items() if float(gradient.abs().max()) > 0}
    assert pulled, "no parameter that learns gets a gradient"
    before = _tensors(policy)
    train(objective, policy, examples, tiny_plan(policy, num_steps=5, learning_rate=RATE))
    changed = set(same_bytes(before, _tensors(policy)))
    assert changed <= trainable, f"weights that do not learn have changed: {sorted(changed - trainable)[:3]}"
    still = pulled - changed
    assert not still, f"five steps left weights with a gradient where they were: {sorted(still)[:3]}"


def detaching_gives_the_base_back(
    technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """After training and detach(), every base weight that was frozen has its old bits and its old name, and nothing was added."""
    policy = _prepared(build_policy, objective, examples)
    base = {name: tensor.clone() for name, tensor in policy.network.state_dict().items()}
    technique.attach(policy, seed=0)
    learning = {tensor.data_ptr() for _, tensor in policy.trainable()}
    train(objective, policy, examples, tiny_plan(policy, num_steps=5, learning_rate=RATE))
    technique.detach(policy)
    after = policy.network.state_dict()
    assert base.keys() == after.keys(), f"detach() leaves other names behind: {sorted(base.keys() ^ after.keys())[:3]}"
    frozen = {name for name, tensor in after.items() if tensor.data_ptr() not in learning}
    different = [name for name in same_bytes(base, dict(after)) if name in frozen]
    assert not different, f"detach() does not give the base's weights back: {different[:3]} differ"
    assert not any(parameter.requires_grad for parameter in policy.network.parameters()), (
        "the network still learns after detach()"
    )


def merging_changes_no_output(
    technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """Where it can be merged, the merged network computes the same (1e-5) with the base's own parameters; else merge() says so."""
    policy = _trained(technique, build_policy, objective, examples)
    before = outputs(policy, objective, examples)
    if not technique.mergeable:
        try:
            technique.merge(policy)
        except ModelError:
            return
        raise AssertionError("mergeable is False, so merge() must raise ModelError")
    technique.merge(policy)
    change = float((outputs(policy, objective, examples) - before).abs().max() / before.std())
    assert change <= MERGED, f"merging changes the last hidden states by {change:.3g} of their spread"
    names = build_policy().network.state_dict().keys()
    assert names == policy.network.state_dict().keys(), "a merged network must have its base's parameters and no others"
    fresh = outputs(_prepared(build_policy, objective, examples), objective, examples)
    moved = {
        name for name, _ in _attached(technique, build_policy, objective, examples).trainable() if name.startswith("network.")
    }
    assert not moved or float((before - fresh).abs().max()) > 0, "training changed no output, so this law has shown nothing"


def packing_and_padding_change_nothing(
    technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """With the technique attached and trained, rows give the same loss and gradient packed, padded, and one by one. In float64."""
    policy = as_float64(_trained(technique, build_policy, objective, examples))
    rows = whole_step(objective, policy, examples)
    alone = slope(objective, policy, rows, max_tokens=1)
    same_slope(alone, slope(objective, policy, rows), True, "packing")
    same_slope(alone, slope(objective, policy, rows, padded=True), True, "padding")


def what_is_written_is_the_likeliest(
    technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """What a tuned policy writes, in a batch and with a cache, are the tokens that it gives the highest likelihood to without either."""
    policy = _trained(technique, build_policy, objective, examples)
    if objective.head == "seq2seq":
        _targets_are_the_likeliest(policy, objective, examples[:4])
        return
    head = policy.network.get_output_embeddings()
    if policy.kind != "decoder" or head is None:
        return
    prompts = [policy.tokenizer(example.text)["input_ids"] for example in examples[:4]]
    for prompt, written in zip(prompts, generate(policy, prompts, NUM_WRITTEN, frozenset()), strict=True):
        ids = list(prompt)
        for token in written:
            with torch.no_grad():
                batch = pack([Row(0, torch.tensor(ids), {"supervised": torch.zeros(len(ids))})])
                scores = head(policy.hidden(batch.to(policy.device))[-1])
            best = float(scores.max() - scores[token])
            assert best <= NEAR, f"it wrote a token whose score is {best:.3g} below the best after {len(ids)} tokens"
            ids.append(token)


def _targets_are_the_likeliest(policy: Policy, objective: Objective, examples: Sequence[Example]) -> None:
    sources = [row.source for unit in objective.units(examples, policy, policy.context) for row in unit if row.source is not None]
    start, never = target_start(policy), never_written(policy)
    for source, written in zip(sources, written_targets(policy, [one.tolist() for one in sources], NUM_WRITTEN), strict=True):
        if not written:
            continue
        supervised = torch.tensor([0.0] * len(start) + [1.0] * len(written))
        row = Row(0, torch.tensor([*start, *written]), {"supervised": supervised}, source=source)
        with torch.no_grad():
            scores = policy.distributions(pack([row]).to(policy.device))
        scores[:, never] = -torch.inf
        away = float((scores.max(-1).values - scores[torch.arange(len(written)), written]).max())
        assert away <= NEAR, f"it wrote a token whose score is {away:.3g} below the best"


def saved_is_loaded(technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]) -> None:
    """A tuned policy that was saved and loaded again computes the same bits."""
    policy = _trained(technique, build_policy, objective, examples)
    before = outputs(policy, objective, examples)
    source = policy.source
    masked = objective.head == "masked"
    card = Card(source.name, source.sha256, "technique", {}, "objective", {}, policy.classes, policy.context, 256, masked=masked)
    with tempfile.TemporaryDirectory() as place:
        save_policy(policy, technique, card, Path(place))
        loaded = load_tuned(Path(place), technique)
    change = float((outputs(loaded, objective, examples) - before).abs().max())
    assert change == 0.0, f"saved and loaded, the last hidden states differ by {change:.3g}"
    different = same_bytes(dict(policy.heads.state_dict()), dict(loaded.heads.state_dict()))
    assert not different, f"saved and loaded, the heads differ: {different}"
    assert loaded.classes == policy.classes, f"classes {policy.classes} were loaded as {loaded.classes}"


def training_reduces_the_loss(
    technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """Thirty steps lower the loss, at the technique's own rate for the smallest models or a higher one."""
    policy = _attached(technique, build_policy, objective, examples)
    plan = tiny_plan(policy, num_steps=30, learning_rate=max(LEAST_RATE, technique.learning_rates[0][1]))
    units = objective.units(examples, policy, plan.max_length)
    before = sum(validate(policy, objective, units, plan, objective.init(policy)).values())
    training, _ = train(objective, policy, examples, plan)
    after = sum(validate(policy, objective, units, plan, training.objective_state).values())
    assert after < before - 0.02 * abs(before), f"30 steps took the loss from {before:.4f} to {after:.4f}"


def killed_and_resumed_gives_the_same_bytes(
    technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """Saved after three steps and gone on with in a new policy, training ends in the same bits as without a stop."""
    policy = _attached(technique, build_policy, objective, examples)
    whole, _ = train(objective, policy, examples, tiny_plan(policy, num_steps=6))
    stopped = _attached(technique, build_policy, objective, examples)
    half, _ = train(objective, stopped, examples, tiny_plan(stopped, num_steps=3))
    with tempfile.TemporaryDirectory() as place:
        checkpoint.save(
            Path(place), half.step, half.tensors(), {"cursor": asdict(half.cursor), "objective": half.objective_state}
        )
        saved = checkpoint.load(Path(place), half.step)
    assert saved is not None, "the checkpoint could not be read back"
    fresh = _attached(technique, build_policy, objective, examples)
    plan = tiny_plan(fresh, num_steps=6)
    resumed = Training.begin(fresh, objective, plan)
    resumed.restore(saved.tensors, saved.step, Cursor(**saved.state["cursor"]), saved.state["objective"])
    train(objective, fresh, examples, plan, resumed)
    different = same_bytes(whole.tensors(), resumed.tensors())
    assert not different, f"resumed, {len(different)} tensors end in other bits, such as {different[:3]}"


def what_frozen_blocks_made_may_be_kept(
    technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """Begun above the blocks that do not learn, training ends as from the start: to the bit where a trial says that it does."""
    kept, plain = (_attached(technique, build_policy, objective, examples) for _ in range(2))
    bottom = Bottom((), 0, whole=False) if obstacle(kept) or objective.online else frozen_bottom(kept)
    plan = tiny_plan(kept, num_steps=6)
    rows = [row for unit in objective.units(examples, kept, plan.max_length) for row in unit]
    if not bottom.blocks:
        return
    exact = not why_not_kept(kept, bottom, rows)
    kept.frozen = Frozen(kept, bottom, StateStore(1 << 30), rows)
    ended, known = train(objective, kept, examples, plan)
    whole, steps = train(objective, plain, examples, plan)
    apart = [sum(one.losses.values()) - sum(other.losses.values()) for one, other in zip(known, steps, strict=True)]
    assert max(map(abs, apart)) <= KEPT * max(sum(step.losses.values()) for step in steps), f"losses are {apart} apart"
    different = same_bytes(whole.tensors(), ended.tensors()) if exact else []
    assert not different, f"with kept states, {len(different)} tensors end in other bits, such as {different[:3]}"


TECHNIQUE_LAWS: tuple[TechniqueLaw, ...] = (
    what_follows_from_the_rows_is_its_own_setting,
    attaching_changes_no_output,
    same_seed_same_start,
    only_trainable_weights_move,
    detaching_gives_the_base_back,
    merging_changes_no_output,
    saved_is_loaded,
    packing_and_padding_change_nothing,
    what_is_written_is_the_likeliest,
    training_reduces_the_loss,
    killed_and_resumed_gives_the_same_bytes,
    what_frozen_blocks_made_may_be_kept,
)


def num_trainable(technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]) -> int:
    """Return how many numbers learn, to hold against the technique's formula."""
    return sum(tensor.numel() for _, tensor in _attached(technique, build_policy, objective, examples).trainable())


def outputs(policy: Policy, objective: Objective, examples: Sequence[Example]) -> Tensor:
    """Return the last hidden states of all tokens of these examples. [T, D]"""
    with torch.no_grad():
        return torch.cat([policy.hidden(batch) for batch in cut(whole_step(objective, policy, examples).units, ALL_TOKENS)])


def _prepared(build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]) -> Policy:
    policy = build_policy()
    objective.prepare(policy, examples)
    return policy


def _attached(technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]) -> Policy:
    policy = _prepared(build_policy, objective, examples)
    technique.attach(policy, seed=0)
    return policy


def _trained(technique: Technique, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]) -> Policy:
    policy = _attached(technique, build_policy, objective, examples)
    train(objective, policy, examples, tiny_plan(policy, num_steps=5, learning_rate=RATE))
    return policy


def _tensors(policy: Policy) -> dict[str, Tensor]:
    parts = {"network": policy.network, "heads": policy.heads}
    return {
        f"{part}.{name}": tensor.detach().clone() for part, module in parts.items() for name, tensor in module.named_parameters()
    }
