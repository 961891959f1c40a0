"""Generation with the policy's own network in torch."""

from collections.abc import Sequence

from pydantic import Field

from whet.engine.continuous import Continuous, answer_logprobs
from whet.engine.continuous_targets import ContinuousTargets
from whet.models.policy import Policy
from whet.plugins import plugin
from whet.protocols import Generation


@plugin
class Torch:
    """The policy's own network, with continuous batching and one key-value cache. Yu et al. 2022 (Orca, OSDI), section 3.1.

    Whole prompts are read at once, not in parts. Of encoder-decoders, requests that join together share a cache, and others do not.
    """

    max_rows: int = Field(16, ge=1)
    """Requests that are written at the same time. The cache's memory grows with it."""
    max_prompt_tokens: int = Field(2048, ge=1)
    """Tokens of new prompts, padded, that are read together between two tokens of those at work; a longer prompt is read alone."""

    def start(self, policy: Policy) -> Generation:
        if policy.kind == "encoder-decoder":
            return ContinuousTargets(policy, self.max_rows, self.max_prompt_tokens)
        return Continuous(policy, self.max_rows, self.max_prompt_tokens)

    def score(self, policy: Policy, prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
        return answer_logprobs(policy, prompt, answer)
