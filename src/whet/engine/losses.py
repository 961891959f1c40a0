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
    the forward pass and scaled in the backward one. Only a weight that learns needs its logits twice, but where all tokens count alike.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None, alike: bool
    ) -> Tensor:
        compute = compute_dtype(hidden)
        matrix, states = weight.to(compute), hidden.to(compute)
        logprobs = torch.empty(len(targets), dtype=_at_least_fp32(hidden), device=hidden.device)
        slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        fused = bias is None and cap is None and compute == torch.bfloat16 and hidden.device.type == "cpu" and why_not() is None
        both = fused and alike and ctx.needs_input_grad[1]
        of_weight: Tensor | None = None  # [V, D] of the sum of all log-probabilities
        for start in range(0, len(targets), CHUNK):
            part = slice(start, start + CHUNK)
            if fused:
                logits = linear(states[part], matrix)
                logprobs[part] = target_slopes(logits, targets[part].contiguous(), learning=slopes is not None or both)
                if slopes is not None:
                    slopes[part] = (logits @ matrix).to(slopes.dtype)
                if both:
                    of_weight = _sum_of(of_weight, logits.T @ states[part])
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
        ctx.cap, ctx.fused, ctx.of_weight = cap, fused, of_weight
        ctx.compute = compute  # the backward pass runs where it may be another
        return logprobs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        hidden, weight, bias, targets, slopes = ctx.saved_tensors
        grad_hidden = None if slopes is None else slopes * grad[:, None].to(slopes.dtype)
        grad_weight = grad_bias = None
        of_weight, ctx.of_weight = ctx.of_weight, None
        if of_weight is not None and bool((grad == grad[0]).all()):
            grad_weight = of_weight.mul_(grad[0]).to(weight.dtype)
        elif ctx.needs_input_grad[1] or (bias is not None and ctx.needs_input_grad[2]):
            matrix, states = weight.to(ctx.compute), hidden.to(ctx.compute)
            if ctx.fused:
                grad_weight = _grad_weight(states, matrix, targets, grad).to(weight.dtype)
            else:
                grad_weight, grad_bias = _grads(states, matrix, bias, targets, ctx.cap, grad, _at_least_fp32(weight))
                grad_weight = grad_weight.to(weight.dtype)
                grad_bias = None if bias is None else grad_bias.to(bias.dtype)
        return grad_hidden, grad_weight, grad_bias, None, None, None


def _grad_weight(states: Tensor, matrix: Tensor, targets: Tensor, grad: Tensor) -> Tensor:
    """Return the weight's gradient under a slope for each token, through the package's own kernel. [V, D] fp32"""
    found: Tensor | None = None
    for start in range(0, len(targets), CHUNK):
        part = slice(start, start + CHUNK)
        logits = linear(states[part], matrix)
        target_slopes(logits, targets[part].contiguous(), learning=True)
        found = _sum_of(found, logits.T @ (states[part] * grad[part, None]).to(states.dtype))
    return torch.zeros(matrix.shape) if found is None else found


def _sum_of(found: Tensor | None, more: Tensor) -> Tensor:
    """Return the sum, in fp32 and in place where there is one already."""
    return more.float() if found is None else found.add_(more)


def _grads(
    states: Tensor, matrix: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None, grad: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the gradients of weight and bias. [V, D], [V]"""
    grad_weight = torch.zeros(matrix.shape, dtype=dtype, device=matrix.device)
    grad_bias = torch.zeros(matrix.shape[0], dtype=dtype, device=matrix.device)
    for start in range(0, len(targets), CHUNK):
        part = slice(start, start + CHUNK)
        logits, capped = _softmax_inputs(states[part], matrix, bias, cap)
        slope = _one_minus(torch.softmax(logits, dim=-1), targets[part]) * grad[part, None]
        if capped is not None:
            slope *= capped
        grad_weight += (slope.to(states.dtype).T @ states[part]).to(dtype)
        grad_bias += slope.sum(0)
    return grad_weight, grad_bias


def target_logprobs(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None = None, *, alike: bool = False
) -> Tensor:
    """Return the log-probability of each target. hidden [N, D], weight [V, D], targets [N] -> [N], at least fp32

    `cap` is Gemma 2's soft cap on logits: cap * tanh(logits / cap). `alike`: each will count the same in the loss, so that the gradient
    of a weight that learns can be made along with the logits; where it does not, the result is the same and takes longer.
    """
    logprobs: Tensor = _TargetLogprobs.apply(hidden, weight, bias, targets, cap, alike)  # type: ignore[no-untyped-call]
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
