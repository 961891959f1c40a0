"""A run without what serving does not need: no rows, no scores, no path of the machine; and with its base model's weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import whet
from whet.data.accounting import ACCOUNTING
from whet.files import file_hash, write_json, write_whole
from whet.models.builtin import BESIDE_WEIGHTS
from whet.models.policy import Policy
from whet.models.save import BASE, POLICY, Card, read_card
from whet.recipe import Evaluate, Recipe, Train
from whet.recipe_data import Data
from whet.recipe_file import dump_recipe, load_recipe
from whet.recipe_parts import Choice
from whet.run import MANIFEST, RECIPE, Run
from whet.stages.build import plugin_files
from whet.stages.prepare import stored_columns

BUILT_IN = "builtin:"


def write_stripped(run: Run, policy: Policy, sources: Path | None, folder: Path) -> tuple[str, ...]:
    """Write what serving a run needs into a new folder, as a run of kind `deploy`; return the user's own plugin files in it.

    `sources` is where those lie now. The base model comes along where it is none of whet's own, which come in packages.
    """
    folder.mkdir()
    shutil.copytree(run.model, folder / "model", ignore=shutil.ignore_patterns(".*"))
    card = served_card(read_card(run.model))
    whole = (run.model / "config.json").is_file()
    if not card.source.startswith(BUILT_IN):
        if not whole:
            _copy_base(policy.source.folder, folder / "model" / BASE)
        _rename_base(folder / "model", card.source)
        card = replace(card, source=BASE)
    write_json(folder / "model" / POLICY, asdict(card))
    recipe = _recipe(load_recipe(run.path / RECIPE), card, stored_columns(run))
    own = plugin_files(recipe, sources)
    for name in own:
        assert sources is not None, f"{name} was loaded without a recipe's folder"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sources / name, folder / name)
    write_whole(folder / RECIPE, dump_recipe(recipe))
    (folder / ACCOUNTING).parent.mkdir()
    write_json(folder / ACCOUNTING, {"columns": recipe.data.model_dump(mode="json")})
    manifest, base = run.manifest, run.manifest.get("base", {})
    write_json(
        folder / MANIFEST,
        {
            "kind": "deploy",
            "whet": whet.__version__,
            "parents": [run.path.resolve().name],
            "data_sha256": manifest["data_sha256"],
            "recipe_sha256": file_hash(folder / RECIPE),
            "plugins": own,
            "base": {**base, "name": _shown(str(base.get("name", card.source)))},
            **({"gate_ignored": _reasons(manifest["gate_ignored"], run)} if manifest.get("gate_ignored") else {}),
        },
    )
    return tuple(own)


def served_card(card: Card) -> Card:
    """Return a card for a model that is asked and never trained: what wrote answers for a reward that is a run of its own writes as `sft`."""
    reward = card.objective_settings.get("reward")
    name = reward.get("name") if isinstance(reward, dict) else reward
    return replace(card, objective="sft", objective_settings={}) if name == "run" else card


def _recipe(recipe: Recipe, card: Card, columns: Data) -> Recipe:
    """Return the recipe with what serving reads: which columns mean what, how texts are cleaned, arithmetic, the longest answer."""
    data = columns.model_copy(update={"path": _names(columns.path), "validation": (), "test": ()})
    return Recipe(
        model=card.source,
        data=data,
        objective=Choice(name=card.objective, **card.objective_settings),
        technique=Choice(name=card.technique, **card.technique_settings),
        train=Train(precision=recipe.train.precision),
        evaluate=Evaluate(max_new_tokens=recipe.evaluate.max_new_tokens),
    )


def _names(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(Path(path).name for path in paths)


def _shown(name: str) -> str:
    """Return a base model's name without the folder that it lay in here."""
    return name if name.startswith(BUILT_IN) or not Path(name).is_absolute() else Path(name).name


def _reasons(ignored: list[dict[str, str]], run: Run) -> list[dict[str, str]]:
    place, name = str(run.path), run.path.resolve().name
    return [{key: value.replace(place, name) for key, value in one.items()} for one in ignored]


def _copy_base(source: Path, folder: Path) -> None:
    """Copy what decides what a base model computes: exactly the files that its hash is of."""
    folder.mkdir()
    for file in sorted(source.iterdir()):
        if file.suffix in BESIDE_WEIGHTS and file.is_file():
            shutil.copyfile(file, folder / file.name)


def _rename_base(model: Path, source: str) -> None:
    """Take the place where the base lay here out of the files that name it, such as an adapter's."""
    for file in model.glob("*.json"):
        text = file.read_text(encoding="utf-8")
        if source in text and Path(source).is_absolute():
            file.write_text(text.replace(source, BASE), encoding="utf-8")
