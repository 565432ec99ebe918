"""Codebooks fitted once more, so that their codes are used evenly."""

from collections.abc import Sequence

import torch
from torch import Tensor

from speechlm_lab.quantize.residual import ResidualVQ
from speechlm_lab.quantize.vq import count_and_sum, follow, nearest

RARE = 1e-3  # a share of use, in units of the mean one, does not count as less
DECAYS = (0.98, 0.995)  # of the running means and shares: at first, and to settle
SETTLE = 0.6  # part of the steps after which the second one holds


def balance(
    points: Tensor,
    codebook: Tensor,
    gamma: float = 1.0,
    counted: Tensor | None = None,
    weights: Tensor | None = None,
    passes: int = 4,
    batch: int = 512,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Fit a codebook `[V, D]` on `points` `[N, D]` by frequency-sensitive competition.

    Ahalt et al. 1990, Neural Networks 3(3). Running means as in `follow`, but while
    they are fitted a point x does not choose the nearest code. It chooses

        argmin_v (V u_v)^gamma ||x - c_v||^2

    where u_v is the share of the points that chose code v of late: the busy ones seem
    further away and the idle ones nearer, until all have about as many points. In use
    the nearest code counts, as ever. With gamma 0 this is k-means in batches.

    Args:
        points: `[N, D]`; each pass takes them in another order.
        codebook: `[V, D]`, where to begin.
        gamma: how strongly to balance, 0 or more.
        counted: bool `[N]`, points whose use is to be even. The others choose the
            nearest code and only move it. None: all are counted.
        weights: `[D]`, as in `VectorQuantizer`. In dimensions of weight 0 a code
            becomes the mean over the points that it is nearest to.
        passes: over all points.
        batch: points a step.
        generator: of the order of points.

    Returns:
        The new codebook `[V, D]` and `[V]`, the running count of points for each code.
    """
    _check(points, codebook, gamma, counted)
    size, batch = len(codebook), min(batch, len(points))
    if counted is None:
        counted = torch.ones(len(points), dtype=torch.bool, device=points.device)
    weights = torch.ones_like(points[0]) if weights is None else weights
    codes = nearest(points * weights, codebook * weights)
    scale = batch / len(points)  # counts are those of one batch
    use = codes.bincount(minlength=size) * scale
    even = codes[counted].bincount(minlength=size) * scale  # of those that count
    each = len(points) // batch
    for step in range(passes * each):
        if step % each == 0:
            order = torch.randperm(len(points), generator=generator).to(points.device)
        rows = order[step % each * batch :][:batch]
        chosen = torch.cat([rows[counted[rows]], rows[~counted[rows]]])
        x, first = points[chosen], int(counted[rows].sum())
        distance = _square_distance(x * weights, codebook * weights)
        share = (even * size / even.sum()).clamp(min=RARE)
        distance[:first] *= share**gamma
        codes = distance.argmin(1)
        decay = DECAYS[step >= SETTLE * passes * each]
        codebook, use = follow(codebook, use, x, codes, decay)
        now = codes[:first].bincount(minlength=size)
        even = decay * even + (1 - decay) * now
    return _fill(points, codebook, weights), use


def _check(
    points: Tensor, codebook: Tensor, gamma: float, counted: Tensor | None
) -> None:
    if points.ndim != 2 or codebook.ndim != 2 or points.shape[1] != codebook.shape[1]:
        raise ValueError(
            "points must be [N, D] and the codebook [V, D], got "
            f"{list(points.shape)} and {list(codebook.shape)}"
        )
    if gamma < 0:
        raise ValueError(f"gamma must be 0 or more, got {gamma}")
    if counted is not None and (
        counted.shape != points.shape[:1] or counted.dtype != torch.bool
    ):
        raise ValueError(
            f"counted must be a bool for each of {len(points)} points, got "
            f"{counted.dtype} {list(counted.shape)}"
        )
    if len(points) == 0 or (counted is not None and not counted.any()):
        raise ValueError("no point is counted: there is no use to be made even")


def _square_distance(points: Tensor, codebook: Tensor) -> Tensor:
    """`[N, V]`, and never 0: a product with it is to have an order."""
    length = codebook.square().sum(1) + points.square().sum(1, keepdim=True)
    return torch.addmm(length, points, codebook.T, alpha=-2).clamp(min=1e-6)


def _fill(points: Tensor, codebook: Tensor, weights: Tensor) -> Tensor:
    """In dimensions that no code is sought in: the means over its points."""
    silent = weights == 0
    if not silent.any():
        return codebook
    codes = nearest(points * weights, codebook * weights)
    count, total = count_and_sum(points, codes, len(codebook))
    mean = total / count.clamp(min=1).unsqueeze(1)
    return torch.where((count > 0).unsqueeze(1) & silent, mean, codebook)


@torch.no_grad()
def balance_levels(
    quantizer: ResidualVQ,
    latents: Tensor,
    gammas: Sequence[float],
    counted: Tensor | None = None,
    passes: int = 4,
    seed: int = 0,
) -> None:
    """`balance` every codebook of `quantizer`, in place, level after level.

    Args:
        quantizer: its codebooks are where the fit begins. It may not search by
            direction.
        latents: `[B, F, D]`; each level is fitted to what the new ones before it leave.
        gammas: of each level; the last one also holds for all further levels.
        counted: bool `[B, F]`, frames whose use is to be even; None: all of them.
        passes: over all frames, for each level.
        seed: of the order of frames.
    """
    if not gammas:
        raise ValueError("gammas must hold at least one value")
    if any(level.config.by_direction for level in quantizer.levels):
        raise ValueError("codes that are sought by direction cannot be balanced")
    residual = latents
    flat = None if counted is None else counted.flatten()
    for number, level in enumerate(quantizer.levels):
        codebook, use = balance(
            level.project_in(residual).flatten(0, -2),
            level.codebook.detach(),
            gammas[min(number, len(gammas) - 1)],
            flat,
            level.weights,
            passes,
            generator=torch.Generator().manual_seed(seed + number),
        )
        level.codebook.copy_(codebook)
        level.use.copy_(use)
        residual = residual - level.decode(level.encode(residual))
