"""What a plugin of each kind does: a plugin names its protocol as its base to get what has a default, all that is not abstract.

Shapes: T tokens, S statistics of a metric, N examples of an evaluation, D width, V vocabulary, K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.optim import Optimizer

    from whet.bundle.subject import Entry, Subject
    from whet.collect.page import Mark, Page
    from whet.engine.continuous import Request, Written
    from whet.models.policy import Policy
    from whet.models.save import Card
    from whet.tracked import Measured, Tracked
    from whet.types import (
        Batch,
        Cursor,
        Example,
        Floats,
        Ints,
        Original,
        Output,
        Score,
        State,
        Statistics,
        StepRows,
        Unit,
        Values,
    )


class Plan(Protocol):
    """What objectives read of a training plan."""

    @property
    def batch_size(self) -> int:
        """Units of one optimiser step."""
        ...

    @property
    def num_steps(self) -> int: ...
    @property
    def max_length(self) -> int:
        """Longest row, in tokens."""
        ...

    @property
    def seed(self) -> int: ...
    @property
    def precision(self) -> Literal["fp32", "bf16"]: ...


class Objective(Protocol):
    """What is learnt. A plugin class names this protocol as its base to get what has a default: all that is not abstract."""

    reference: ClassVar[bool] = False
    online: ClassVar[bool] = False
    """It learns from its own rollouts, so nothing may be fetched ahead."""
    mixes: ClassVar[bool] = False
    """Its units are learnt from one by one, whatever else is in the step, and `steps` only orders them: it can be one of several tasks."""
    written_metrics: ClassVar[tuple[str, ...]] = ()
    """Metrics of the answers that it generates; none where it generates nothing."""
    shots: ClassVar[bool] = False
    """Its outputs and answers heed `Example.shots`, so that the untuned model can be asked with examples in the prompt."""

    @property
    @abstractmethod
    def head(self) -> Literal["lm", "classify", "value", "tokens", "masked", "seq2seq"]:
        """What answers: the network's output head (lm of a decoder, seq2seq of an encoder-decoder, masked), or a head of its own."""
        ...

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """Fields of Example that must be there."""
        ...

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Metrics of its outputs; the first is the one a verdict speaks of."""
        ...

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        """Give the policy what this objective needs before a technique is attached, such as a head for these classes; by default nothing."""

    @abstractmethod
    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        """Rows of each example, without gradient; also what validation loss is measured on."""
        ...

    @abstractmethod
    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        """Yield whole optimiser steps from `cursor` on, without end. Everything that needs no gradient happens here."""
        ...

    @abstractmethod
    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Return ({term: sum}, {metric: sum}); divided by the weights of the whole step, never here."""
        ...

    @abstractmethod
    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        """What the policy answers to each example, in order, without gradient."""
        ...

    def baselines(
        self, base: Policy, train: Sequence[Example], examples: Sequence[Example], max_length: int
    ) -> dict[str, list[Output]]:
        """What the user would have without tuning: outputs for the same examples, by the baseline's name; by default the base's own."""
        return {"base_model": list(self.outputs(base, examples, max_length))}

    def answers(self, policy: Policy, examples: Sequence[Example], max_new_tokens: int) -> Iterator[Output]:
        """The generated answer to each example, in order; only where there are `written_metrics`."""
        return iter(())

    def source(self, example: Example) -> str:
        """The text that an encoder-decoder reads to answer an example; by default its turns before the answer, one below the other."""
        return "\n".join(message.content for message in example.prompt or ())

    def settle(self, policy: Policy, units: Sequence[Unit], plan: Plan) -> None:
        """Fit what no step learns on the training units, such as a head on tuned embeddings; by default nothing.

        Called before each validation and once the best weights are put back. It depends on the policy's weights and on these units
        alone, and leaves what learns as it is, so that a resumed run ends in the same bytes.
        """

    def trial(self, policy: Policy, units: Sequence[Unit], plan: Plan) -> dict[str, float]:
        """What training watches on the validation units, lower is better; nothing where that is the loss itself.

        An `online` objective has to say it, since its units have no answer yet. May fit the policy's temperature on these units.
        """
        return {}

    def init(self, policy: Policy) -> State:
        return {}

    def update(self, state: State, metrics: Mapping[str, float]) -> State:
        return state


class Technique(Protocol):
    """Which parameters learn."""

    mergeable: ClassVar[bool]
    identity: ClassVar[bool] = True
    """Attached and not yet trained, it changes no output; a class without this member is held to that."""
    learning_rates: ClassVar[tuple[tuple[float, float], ...]]
    """What `train.learning_rate: auto` becomes: (below so many million parameters, rate) in order; the last bound is infinite."""
    why_rates: ClassVar[str]
    """The reason for them, shown behind the rate."""
    num_virtual: int = 0
    """Virtual tokens that it puts before every row, if any; a class without this member has none."""

    @abstractmethod
    def attach(self, policy: Policy, seed: int) -> None:
        """Make the policy trainable this way, in place."""
        ...

    @abstractmethod
    def detach(self, policy: Policy) -> None:
        """Take it off again; the base's weights are what they were."""
        ...

    @abstractmethod
    def merge(self, policy: Policy) -> None:
        """Fold it into the base's weights, for good. Raises ModelError where that is impossible."""
        ...

    @abstractmethod
    def save(self, policy: Policy, folder: Path) -> None: ...
    @abstractmethod
    def load(self, policy: Policy, folder: Path) -> None: ...


@runtime_checkable
class Sized(Protocol):
    """A technique with settings that follow from the model and from how much there is to learn; it is also a Technique."""

    @abstractmethod
    def sized(self, policy: Policy, bits: float) -> Mapping[str, tuple[float, str]]:
        """What each setting that is `auto` becomes, and why, where about so many bits are to be learnt."""
        ...


class Optimiser(Protocol):
    """How parameters step. All state lies in `state` of what `build` returns, as tensors, numbers and mappings of them."""

    learning_rate_factor: float = 1.0
    """What `train.learning_rate: auto` is multiplied by, since the techniques' rates are AdamW's; a class without this member has 1."""
    why_factor: str = ""
    """The reason for it, shown behind the rate."""
    elementwise: bool = False
    """It takes each number by itself, so it may step on shares of a tensor; a class without this member does not."""

    @abstractmethod
    def build(self, named: Sequence[tuple[str, Tensor]], learning_rate: float, weight_decay: float) -> Optimizer: ...


@runtime_checkable
class ByRole(Protocol):
    """An optimiser that moves some matrices in another way than the rest; it is also an Optimiser, for where no network is known."""

    @abstractmethod
    def build_by_role(
        self, named: Sequence[tuple[str, Tensor]], hidden: Mapping[str, bool], learning_rate: float, weight_decay: float
    ) -> Optimizer:
        """`hidden` names the matrices between hidden states, and says of each whether it is kept as [in, out] and not as [out, in]."""
        ...


class Schedule(Protocol):
    """How the learning rate moves."""

    @abstractmethod
    def factor(self, step: int, num_steps: int, num_warmup: int) -> float:
        """Share of the peak learning rate at step 1..num_steps."""
        ...


class Metric(Protocol):
    """A score made of per-example statistics, so that slices, intervals and pairings all come from the same numbers.

    A built-in one also says how it is spoken of: `title`, `claim` (with {value} and {rows}), and whether it is a `share`.
    """

    higher_is_better: ClassVar[bool]
    best: ClassVar[float]
    needs: ClassVar[tuple[str, ...]]
    """Fields of Output that must be set; `labels` is met by a single label too."""

    @abstractmethod
    def statistics(self, example: Example, output: Output) -> Sequence[float]:
        """What one example adds. [S]; rows may differ in length, and are padded with 0"""
        ...

    @abstractmethod
    def reduce(self, statistics: Statistics) -> float:
        """The score of these examples. [N, S] -> number; nan where it is undefined."""
        ...


@runtime_checkable
class Redraws(Protocol):
    """A metric with a quicker way of its own to score many draws of the same examples, for the bootstrap."""

    @abstractmethod
    def redrawn(self, statistics: Statistics) -> Callable[[NDArray[np.int64]], float]:
        """The score of any draw by row numbers: exactly `reduce(statistics[rows])`."""
        ...


class Reward(Protocol):
    """What an answer is worth. What cannot be scored is an error, never 0."""

    needs: ClassVar[tuple[str, ...]]
    """Fields of Example that must be there: `prompt`, and `response` where an expected answer is compared with."""

    def check(self, examples: Sequence[Example]) -> None:
        """Raise DataError at the first example whose answers cannot be scored; by default all can."""

    @abstractmethod
    def score(self, examples: Sequence[Example], answers: Sequence[str]) -> Sequence[float]:
        """Return one finite number for each answer, which replies to the example at its place; more is better."""
        ...


class Source(Protocol):
    """Where rows come from that are not in files of the recipe's own. Its secrets are `whet.collect.credential.Credential` settings."""

    members: ClassVar[str] = ""
    """A regular expression of the names of files with rows in the archive or folder that another tool exports; empty: it exports none."""

    @property
    @abstractmethod
    def origin(self) -> str:
        """What it is called in messages: an address or a path, without any secret."""
        ...

    def stamp(self) -> str:
        """What tells, without collecting, that the rows have changed since, such as the date of a file; by default nothing does."""
        return ""

    @classmethod
    def recognises(cls, record: Mapping[str, object]) -> bool:
        """Whether a file's record is one that this source turns into a row, so that `whet new FILE` chooses it; by default none is."""
        return False

    @abstractmethod
    def collect(self, after: Mark | None) -> Iterator[Page]:
        """Yield the rows a page at a time, from the beginning or after the mark of a page. Raises DataError where that is impossible.

        The same source gives the same rows in the same order, so that a stop and a start lose and repeat none.
        """
        ...


class Unwanted(Exception):
    """A cleaner's word that a row is not to be learnt from: why, in words that do not repeat what the text says."""


class Cleaner(Protocol):
    """Repairs a row's text, or says why it is dropped."""

    @abstractmethod
    def clean(self, text: str) -> str:
        """Return the repaired text; the same text where there is nothing to repair.

        Raises Unwanted for a text that is not to be learnt from. It is judged and answered all the same, as it is.
        """
        ...


class Augmenter(Protocol):
    """Makes texts of training rows into new ones that the same is learnt of."""

    costly: ClassVar[bool] = False
    """A text costs seconds or money: what was made is kept in a file beside the recipe, and never made twice."""
    company: ClassVar[int] = 0
    """Texts of other rows with the same target that it looks at, at most."""

    def foretell(self, originals: Sequence[Original]) -> str:
        """Say, before anything is made, what making these costs; by default nothing. Raises RecipeError where that is more than allowed."""
        return ""

    @abstractmethod
    def augment(self, originals: Sequence[Original]) -> Iterator[str]:
        """Yield one text for each row, in order; the row's own text where nothing can be made of it.

        A text depends on its row and its `draw` alone, never on the rows beside it.
        """
        ...


class Check(Protocol):
    """Whether what came in production still looks like what the model was judged on."""

    takes: ClassVar[tuple[str, ...]]
    """What it compares: `numbers` [N], names of `categories`, or `vectors` [N, D]."""
    fewest: ClassVar[int] = 30
    """Values on either side below which nothing is said."""

    @property
    @abstractmethod
    def smallest(self) -> float:
        """Least change that matters: below it there is no alarm, however certain it is."""
        ...

    @abstractmethod
    def measure(self, window: Values, baseline: Values) -> Score:
        """How far apart they lie, 0 for not at all, with its 95 % interval; n is that of the window."""
        ...

    @abstractmethod
    def p_value(self, window: Values, baseline: Values) -> float:
        """Chance of lying at least so far apart where both were drawn from the same: at most `level` of such draws are below any level."""
        ...

    def alarm(self, score: Score, p_value: float, level: float) -> bool:
        """Whether the change is certain at this level, and large enough to matter."""
        return p_value <= level and score.value >= self.smallest


class Compressor(Protocol):
    """How a network is made smaller."""

    @property
    @abstractmethod
    def calibration_rows(self) -> int:
        """Training rows for which it looks at what the network computes; 0: none."""
        ...

    @abstractmethod
    def compress(self, policy: Policy, calibration: Sequence[Batch]) -> Policy:
        """Make the policy's network smaller in place, and return the policy; its heads stay as they are.

        `calibration` are packed training rows, as many as it asks for. Raises ModelError where it does not fit the network.
        """
        ...


class Artefact(Protocol):
    """An exported model as its own format's program runs it."""

    @property
    @abstractmethod
    def runtime(self) -> str:
        """Program and version."""
        ...

    @property
    @abstractmethod
    def chat_template(self) -> str | None: ...
    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Weights as they were read back, by the network's own names, to compare one by one; empty where the format has others."""
        ...

    @property
    @abstractmethod
    def notes(self) -> Sequence[str]:
        """What who uses it must know."""
        ...

    @abstractmethod
    def encode(self, text: str, pair: str | None, special_tokens: bool) -> list[int]:
        """Return the tokens that the artefact's own tokenizer makes of a text."""
        ...

    @abstractmethod
    def outputs(self, rows: Sequence[Ints], sources: Sequence[Ints] = ()) -> list[Floats]:
        """Return the logits of each row of tokens: [T, V] of a language model, [K] of a classifier.

        `sources` are what an encoder-decoder reads, one for each row, which its decoder reads.
        """
        ...


class Exporter(Protocol):
    """A format that other programs read."""

    @property
    @abstractmethod
    def tolerance(self) -> float:
        """Largest difference of the artefact's outputs from the run's, over the spread of these."""
        ...

    @property
    @abstractmethod
    def tensor_tolerance(self) -> float:
        """Largest difference of a weight that was read back, over the largest weight of its tensor."""
        ...

    @abstractmethod
    def write(self, policy: Policy, technique: Technique, card: Card, folder: Path) -> None:
        """Write into an empty folder; the technique is attached, and may be merged. Raises ModelError where the format has no place for it."""
        ...

    @abstractmethod
    def read(self, folder: Path) -> Artefact:
        """Return what was written, in the format's own program."""
        ...


class Generation(Protocol):
    """Requests of one policy at work in an engine; whoever calls it does so from one thread."""

    @property
    @abstractmethod
    def num_running(self) -> int: ...
    @property
    @abstractmethod
    def num_waiting(self) -> int: ...

    @abstractmethod
    def add(self, request: Request) -> None:
        """Let a request join as soon as there is a free row."""
        ...

    @abstractmethod
    def drop(self, request_id: str) -> None:
        """Forget a request; nothing more of it is written. Does nothing where it is not there."""
        ...

    @abstractmethod
    def step(self) -> list[Written]:
        """Go on with what runs, and return the tokens that were written, each request's in order; nothing where there is no request."""
        ...


class Engine(Protocol):
    """What writes texts for a server. A request's text must not depend on what else is written at the same time."""

    @abstractmethod
    def start(self, policy: Policy) -> Generation:
        """Return a place where requests to this policy join and leave. Raises ModelError where the policy cannot write."""
        ...

    @abstractmethod
    def score(self, policy: Policy, prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
        """Return the log-probability of each token of an answer to a prompt."""
        ...


Space = Mapping[str, Any]
"""What a search may choose: recipe key to optuna distribution (FloatDistribution, IntDistribution, CategoricalDistribution)."""


class Sampler(Protocol):
    """What a search tries next. It is built anew for each trial, so that a resumed search goes on as if it had not been stopped."""

    @abstractmethod
    def build(self, space: Space, seed: int) -> Any:
        """Return an optuna sampler; what it draws depends on the seed and the trials that are done."""
        ...

    def size(self, space: Space) -> int | None:
        """How many settings there are to try; none: no end of them."""
        return None


class Pruner(Protocol):
    """When a search gives up a trial that does badly."""

    @abstractmethod
    def build(self) -> Any:
        """Return an optuna pruner; a trial reports the score of each of its validations, counted from 1."""
        ...


class Target(Protocol):
    """A place that a trained run is bundled for."""

    @abstractmethod
    def write(self, subject: Subject, folder: Path) -> Entry:
        """Write what the place asks for into a folder that holds the run, its packages and whet, and return how it is started there.

        The same subject gives the same bytes. Raises RecipeError where the settings do not fit the run.
        """


class Tracking(Protocol):
    """A run in a tracker, while it is open. All calls come from one thread, which is not the one that trains."""

    @property
    @abstractmethod
    def key(self) -> str:
        """What leads to the same place again, for a run that goes on. No secret; it is kept in the run's manifest."""
        ...

    @property
    @abstractmethod
    def place(self) -> str:
        """Where a person looks: a folder or an address."""
        ...

    @abstractmethod
    def log(self, records: Sequence[Measured]) -> None:
        """Take note of numbers, in order. A run that goes on tells the steps after its last checkpoint again."""
        ...

    @abstractmethod
    def finish(self, ending: Literal["finished", "failed", "interrupted"]) -> None:
        """Write out everything, and close."""
        ...


class Tracker(Protocol):
    """A tool that shows runs beside each other. It may fail at any time: the run goes on without it, and says so once."""

    @abstractmethod
    def start(self, run: Tracked) -> Tracking:
        """Begin, or go on where `run.key` leads. Its keys come from the environment, never from the recipe."""
        ...
