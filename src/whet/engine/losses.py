"""Log-probabilities of target tokens without ever holding the logits of all of them.

Shapes: N supervised tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from whet.engine.fused import target_slopes, why_not
from whet.engine.machine import compute_dtype

CHUNK = 512  # tokens whose logits exist at one time; 128..2048 differ by 5 % in speed


class _TargetLogprobs(torch.autograd.Function):
    """log softmax(hidden @ weight.T + bias)[target], in chunks of tokens.

    A token's log-probability depends on its own hidden state only, so its gradient there, weight[target] - p @ weight, is made in
    the forward pass and scaled in the backward one. Only a weight that learns needs its logits twice.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None) -> Tensor:
        compute = compute_dtype(hidden)
        matrix, states = weight.to(compute), hidden.to(compute)
        logprobs = torch.empty(len(targets), dtype=_at_least_fp32(hidden), device=hidden.device)
        slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        fused = bias is None and cap is None and compute == torch.bfloat16 and hidden.device.type == "cpu" and why_not() is None
        for start in range(0, len(targets), CHUNK):
            part = slice(start, start + CHUNK)
            if fused:
                logits = linear(states[part], matrix)
                logprobs[part] = target_slopes(logits, targets[part].contiguous(), learning=slopes is not None)
                if slopes is not None:
                    slopes[part] = (logits @ matrix).to(slopes.dtype)
                continue
            probabilities, capped = _softmax_inputs(states[part], matrix, bias, cap)
            norm = torch.logsumexp(probabilities, dim=-1, keepdim=True)
            logprobs[part] = (probabilities.gather(-1, targets[part, None]) - norm).squeeze(-1)
            if slopes is not None:
                slope = _one_minus(probabilities.sub_(norm).exp_(), targets[part])
                if capped is not None:
                    slope *= capped
                slopes[part] = (slope.to(compute) @ matrix).to(slopes.dtype)
        ctx.save_for_backward(hidden, weight, bias, targets, slopes)
        ctx.cap = cap
        return logprobs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        hidden, weight, bias, targets, slopes = ctx.saved_tensors
        grad_hidden = None if slopes is None else slopes * grad[:, None].to(slopes.dtype)
        grad_weight = grad_bias = None
        if ctx.needs_input_grad[1] or (bias is not None and ctx.needs_input_grad[2]):
            compute = compute_dtype(hidden)
            matrix, states = weight.to(compute), hidden.to(compute)
            grad_weight = torch.zeros(weight.shape, dtype=_at_least_fp32(weight), device=weight.device)
            grad_bias = torch.zeros(weight.shape[0], dtype=grad_weight.dtype, device=weight.device)
            for start in range(0, len(targets), CHUNK):
                part = slice(start, start + CHUNK)
                logits, capped = _softmax_inputs(states[part], matrix, bias, ctx.cap)
                slope = _one_minus(torch.softmax(logits, dim=-1), targets[part]) * grad[part, None]
                if capped is not None:
                    slope *= capped
                grad_weight += (slope.to(compute).T @ states[part]).to(grad_weight.dtype)
                grad_bias += slope.sum(0)
            grad_weight = grad_weight.to(weight.dtype)
            grad_bias = None if bias is None else grad_bias.to(bias.dtype)
        return grad_hidden, grad_weight, grad_bias, None, None


def target_logprobs(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None = None) -> Tensor:
    """Return the log-probability of each target. hidden [N, D], weight [V, D], targets [N] -> [N], at least fp32

    `cap` is Gemma 2's soft cap on logits: cap * tanh(logits / cap).
    """
    logprobs: Tensor = _TargetLogprobs.apply(hidden, weight, bias, targets, cap)  # type: ignore[no-untyped-call]
    return logprobs


def plain_logits(states: Tensor, weight: Tensor, bias: Tensor | None, cap: float | None = None) -> Tensor:
    """Return states @ weight.T + bias, capped where there is a cap. [N, D] -> [N, V], at least fp32"""
    compute = compute_dtype(states)
    logits: Tensor = (states.to(compute) @ weight.to(compute).T).to(_at_least_fp32(states))
    logits = logits if bias is None else logits + bias
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _softmax_inputs(states: Tensor, matrix: Tensor, bias: Tensor | None, cap: float | None) -> tuple[Tensor, Tensor | None]:
    """Return logits in at least fp32, and the slope of the soft cap where there is one."""
    logits = (states @ matrix.T).to(_at_least_fp32(states))
    if bias is not None:
        logits += bias
    if cap is None:
        return logits, None
    tangent = torch.tanh(logits / cap)
    return cap * tangent, 1 - tangent.square()


def _one_minus(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return onehot(target) - p, in place: the gradient of log p[target] by the logits."""
    slope = probabilities.neg_()
    slope[torch.arange(len(targets), device=targets.device), targets] += 1
    return slope


def _at_least_fp32(tensor: Tensor) -> torch.dtype:
    return tensor.dtype if tensor.dtype in {torch.float32, torch.float64} else torch.float32
