"""A metric as a reward."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from whet.errors import RecipeError
from whet.plugins import inner, plugin
from whet.protocols import Metric, Reward
from whet.stats import stack
from whet.types import Example, Output


def _of_texts(metric: Metric) -> Metric:
    if set(metric.needs) != {"text"}:
        raise RecipeError(
            f"reward 'metric': {type(metric).__name__} scores {' and '.join(metric.needs)}, and a reward scores a written answer. "
            "Allowed: metrics of answers, such as rouge_l, token_f1 or exact_match, or a file such as ./mine.py."
        )
    return metric


@plugin
class MetricReward(Reward):
    """What a metric gives to the answer by itself, compared with the expected one; less is more where a metric counts errors."""

    metric: Annotated[
        Any, BeforeValidator(partial(inner, "metrics"), json_schema_input_type=str | dict[str, Any]), AfterValidator(_of_texts)
    ] = Field("rouge_l", validate_default=True)
    """Any metric of answers, by name."""

    needs: ClassVar[tuple[str, ...]] = ("prompt", "response")

    def score(self, examples: Sequence[Example], answers: Sequence[str]) -> list[float]:
        sign = 1.0 if self.metric.higher_is_better else -1.0
        return [
            sign * self.metric.reduce(stack([self.metric.statistics(example, Output(text=answer))]))
            for example, answer in zip(examples, answers, strict=True)
        ]
