"""Drawing codes from logits: temperature, truncation, repetition, guidance.

The steps from logits to a code, in the order in which `Sampling.draw` takes them:

    penalise_repetition   codes heard lately get a lower logit
    temperature           logits divided: sharper below 1, flatter above
    keep_top_k            the k likeliest stay
    keep_top_p            the fewest that hold a share p of the probability stay
    keep_min_p            those at least p times as likely as the likeliest stay
    one draw a row        with a seeded generator, so that it can be repeated

`guide` comes before all of these: it makes one row of logits from two.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn from logits. The defaults draw from the plain softmax."""

    temperature: float = 1.0  # below 1 likely codes gain; 0 takes the likeliest
    top_k: int | None = None  # see `keep_top_k`; None: all
    top_p: float | None = None  # see `keep_top_p`; None: all
    min_p: float | None = None  # see `keep_min_p`; None: all
    penalty: float = 1.0  # see `penalise_repetition`; 1: none

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < torch.inf:
            raise ValueError(
                f"temperature must be finite and at least 0, got {self.temperature}"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must lie in [0, 1], got {self.min_p}")
        _check_penalty(self.penalty)

    def draw(
        self,
        logits: Tensor,
        generator: torch.Generator | None = None,
        recent: Tensor | None = None,
    ) -> Tensor:
        """Draw one code from each row of `logits` `[..., V]`; returns int64 `[...]`.

        The same `generator` state gives the same codes. `recent` `[..., N]` are the
        codes that `penalty` looks at; needed if it is not 1.
        """
        if self.penalty != 1:
            if recent is None:
                raise ValueError(
                    f"a penalty of {self.penalty} needs recent codes [..., N]; "
                    "at the start N may be 0"
                )
            logits = penalise_repetition(logits, recent, self.penalty)
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = logits / self.temperature
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None and self.top_p < 1:
            logits = keep_top_p(logits, self.top_p)
        if self.min_p:
            logits = keep_min_p(logits, self.min_p)
        rows = logits.softmax(-1).reshape(-1, logits.shape[-1])
        drawn = torch.multinomial(rows, 1, generator=generator)
        return drawn.reshape(logits.shape[:-1])


def sample(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    min_p: float | None = None,
) -> Tensor:
    """`Sampling(...).draw(logits, generator)` in one call; returns int64 `[...]`."""
    return Sampling(temperature, top_k, top_p, min_p).draw(logits, generator)


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """`logits` `[..., V]` with all but the `top_k` largest set to -inf."""
    smallest = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < smallest, -torch.inf)


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """`logits` `[..., V]` with all beyond the top p of probability set to -inf.

    The fewest codes stay whose probabilities add up to at least p (nucleus sampling:
    Holtzman et al. 2020, arXiv 1904.09751).
    """
    ordered, order = logits.sort(descending=True)
    probabilities = ordered.softmax(-1)
    # a code goes when those likelier than it already hold p; so the first stays
    before = probabilities.cumsum(-1) - probabilities
    drop = torch.zeros_like(before, dtype=torch.bool)
    drop = drop.scatter(-1, order, before >= top_p)
    return logits.masked_fill(drop, -torch.inf)


def keep_min_p(logits: Tensor, min_p: float) -> Tensor:
    """`logits` `[..., V]`; codes under `min_p` times the likeliest's share: -inf.

    So a sure model keeps few codes and an unsure one keeps many (Nguyen et al. 2024,
    arXiv 2407.01082). The likeliest always stays.
    """
    probabilities = logits.softmax(-1)
    least = min_p * probabilities.amax(-1, keepdim=True)
    return logits.masked_fill(probabilities < least, -torch.inf)


def penalise_repetition(logits: Tensor, recent: Tensor, penalty: float) -> Tensor:
    """`logits` `[..., V]` lowered for the codes in `recent` int64 `[..., N]`.

    A positive logit is divided by `penalty`, a negative one multiplied by it; how
    often a code occurs in `recent` does not matter. CTRL (Keskar et al. 2019, arXiv
    1909.05858) divides; of a negative logit that would make a larger one, hence the
    product, as in Transformers. Entries outside 0..V-1, such as blanks, count for
    nothing. Unlike a softmax, this depends on where the zero of the logits is.
    """
    _check_penalty(penalty)
    if recent.shape[:-1] != logits.shape[:-1]:
        raise ValueError(
            f"recent must be [..., N] in the rows of logits {list(logits.shape)}, "
            f"got {list(recent.shape)}"
        )
    size = logits.shape[-1]
    valid = torch.where((recent >= 0) & (recent < size), recent, size)
    heard = logits.new_zeros(*logits.shape[:-1], size + 1, dtype=torch.bool)
    heard = heard.scatter(-1, valid, True)[..., :size]
    lowered = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(heard, lowered, logits)


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: log-probabilities `[..., V]` from two rows of logits.

        log p = log p_u + scale * (log p_c - log p_u), made to add up to 1 again

    with p_c given the condition (a text, a voice) and p_u without it. A `scale` of 1
    gives p_c, 0 gives p_u, above 1 goes beyond p_c, away from p_u. In Ho & Salimans
    2022 (arXiv 2207.12598), who guide diffusion, scale is 1 + w; AudioGen (Kreuk et
    al. 2022, arXiv 2209.15352) guides a language model over codes. What either row
    rules out (-inf) stays out, except at a scale of 0 or 1, where one row is all.
    """
    if not 0 <= scale < torch.inf:
        raise ValueError(f"scale must be finite and at least 0, got {scale}")
    if conditional.shape != unconditional.shape:
        raise ValueError(
            "conditional and unconditional must have one shape, got "
            f"{list(conditional.shape)} and {list(unconditional.shape)}"
        )
    conditional = conditional.log_softmax(-1)
    unconditional = unconditional.log_softmax(-1)
    if scale == 1:
        return conditional
    if scale == 0:
        return unconditional
    guided = unconditional + scale * (conditional - unconditional)
    out = (conditional == -torch.inf) | (unconditional == -torch.inf)
    return guided.masked_fill(out, -torch.inf).log_softmax(-1)


def _check_penalty(penalty: float) -> None:
    if not 0 < penalty < torch.inf:
        raise ValueError(f"penalty must be finite and above 0, got {penalty}")
