"""Drawing codes from logits: temperature, top-k, top-p."""

import torch
from torch import Tensor


def sample(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw one code from each row of `logits` `[..., V]`; returns int64 `[...]`.

    `temperature` divides the logits: below 1 the likely codes become likelier, and at
    0 the likeliest is taken. `top_k` keeps the k likeliest. `top_p` keeps the fewest
    whose probabilities, after temperature and `top_k`, add up to at least p (nucleus
    sampling: Holtzman et al. 2020, arXiv 1904.09751). The same `generator` state gives
    the same codes. Raises ValueError for settings out of range.
    """
    if temperature < 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None and top_p < 1:
        logits = keep_top_p(logits, top_p)
    rows = logits.softmax(-1).reshape(-1, logits.shape[-1])
    drawn = torch.multinomial(rows, 1, generator=generator)
    return drawn.reshape(logits.shape[:-1])


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """`logits` `[..., V]` with all but the `top_k` largest set to -inf."""
    smallest = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < smallest, -torch.inf)


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """`logits` `[..., V]` with all beyond the top p of probability set to -inf."""
    ordered, order = logits.sort(descending=True)
    probabilities = ordered.softmax(-1)
    # a code goes when those likelier than it already hold p; so the first stays
    before = probabilities.cumsum(-1) - probabilities
    drop = torch.zeros_like(before, dtype=torch.bool)
    drop = drop.scatter(-1, order, before >= top_p)
    return logits.masked_fill(drop, -torch.inf)
