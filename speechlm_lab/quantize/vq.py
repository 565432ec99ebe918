"""One codebook: k-means, and a vector quantizer that learns along with a network."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

UPDATES = ("ema", "gradient")


class Quantized(NamedTuple):
    """What a quantizer returns in training."""

    latents: Tensor  # [B, F, D], quantized; the gradient passes straight through
    codes: Tensor  # [B, F] (VectorQuantizer, FSQ) or [B, K, F] (ResidualVQ), int64
    commitment: Tensor  # scalar, mean squared distance of latents to their codes


def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Index `[...]` of the row of `codebook` `[V, D]` nearest to `points` `[..., D]`.

    The first one where several are equally near.
    """
    # ||x - c||^2 = ||x||^2 - 2 x.c + ||c||^2; the first term is the same for all c
    flat = points.reshape(-1, points.shape[-1])
    length = codebook.square().sum(1)
    distance = torch.addmm(length, flat, codebook.T, alpha=-2)  # [N, V]
    return distance.argmin(1).reshape(points.shape[:-1])


def count_and_sum(points: Tensor, codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """How many `points` `[N, D]` fell to each code, and their sum: `[V]`, `[V, D]`."""
    count = torch.bincount(codes, minlength=size).to(points.dtype)
    total = points.new_zeros(size, points.shape[1])
    return count, total.index_add_(0, codes, points)


def kmeans(
    points: Tensor,
    size: int,
    iterations: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Cluster `points` `[N, D]`; returns `size` centres `[size, D]`.

    Lloyd's algorithm (1982), started from points drawn without replacement. A centre
    that loses all its points is moved to a random point. Raises ValueError when there
    are fewer points than centres.
    """
    if points.ndim != 2 or len(points) < size:
        raise ValueError(
            f"{size} centres need at least {size} points [N, D], not "
            f"{list(points.shape)}: pool more latents or use fewer centres"
        )
    order = torch.randperm(len(points), generator=generator)
    centres = points[order[:size].to(points.device)]
    for _ in range(iterations):
        codes = nearest(points, centres)
        count, total = count_and_sum(points, codes, size)
        centres = total / count.clamp(min=1).unsqueeze(1)
        picks = torch.randint(len(points), (size,), generator=generator)
        empty = count == 0
        centres[empty] = points[picks.to(points.device)[empty]]
    return centres


def straight_through(vectors: Tensor, latents: Tensor) -> Tensor:
    """The values of `vectors`, with the gradient of `latents`; all `[..., D]`.

    A choice of the nearest code has no useful gradient. This pretends that there was
    no choice (van den Oord et al. 2017, arXiv 1711.00937, section 3.2).
    """
    return vectors.detach() + (latents - latents.detach())


def follow(
    codebook: Tensor, use: Tensor, points: Tensor, codes: Tensor, decay: float
) -> tuple[Tensor, Tensor]:
    """One step of running means: each code goes towards the points that chose it.

    van den Oord et al. 2017, appendix A.1.

    Args:
        codebook: `[V, D]`.
        use: `[V]`, running count of points for each code.
        points, codes: `[N, D]`, `[N]`, points and the codes that they chose.
        decay: part of the old count that stays, in [0, 1).

    Returns:
        The new codebook and the new use. A code that no point chose stays in place.
    """
    count, total = count_and_sum(points, codes, len(codebook))
    old = decay * use
    new = old + (1 - decay) * count
    weighted = old.unsqueeze(1) * codebook + (1 - decay) * total
    moved = weighted / new.clamp(min=1e-8).unsqueeze(1)
    return torch.where((count > 0).unsqueeze(1), moved, codebook), new


def restart(
    codebook: Tensor, use: Tensor, points: Tensor, below: float
) -> tuple[Tensor, Tensor]:
    """Move dead codes to random points (Jukebox: Dhariwal et al. 2020).

    A code is dead when its use is less than `below` times the mean use. It comes back
    with the mean use, so that it has time to prove itself.

    Args:
        codebook, use, points: `[V, D]`, `[V]`, `[N, D]`, as in `follow`.
        below: 0 restarts nothing.

    Returns:
        The new codebook and the new use.
    """
    mean = use.mean()
    dead = use < below * mean
    picks = torch.randint(len(points), (len(codebook),)).to(points.device)
    codebook = torch.where(dead.unsqueeze(1), points[picks], codebook)
    return codebook, torch.where(dead, mean, use)


@dataclass(frozen=True)
class VQConfig:
    """How a codebook is searched and how it learns. All combinations are possible."""

    update: str = "ema"  # "ema": codes are running means; "gradient": the loss moves
    decay: float = 0.98  # of the running means and counts, a step; in [0, 1)
    restart_below: float = 0.1  # codes used less than this x mean restart; 0: none
    code_width: int | None = None  # width to search in, by projection; None: all D
    by_direction: bool = False  # nearest in angle instead of distance

    def __post_init__(self) -> None:
        if self.update not in UPDATES:
            raise ValueError(f"update is one of {UPDATES}, not {self.update!r}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}")
        if not 0 <= self.restart_below < 1:
            raise ValueError(
                f"restart_below must lie in [0, 1), got {self.restart_below}"
            )
        if self.code_width is not None and self.code_width < 1:
            raise ValueError(f"code_width must be at least 1, got {self.code_width}")


class VectorQuantizer(nn.Module):
    """One codebook of `size` (V) vectors for latents of `width` (D).

    With `update` "ema" each code is the running mean of the latents that chose it;
    with "gradient" it is a parameter, and `commitment` pulls it too: that loss is then
    the second and the third term of van den Oord et al. 2017, equation 3, in one.
    Adam's steps do not depend on the scale of a loss, so one weight serves both.

    With `code_width` d the latents are projected to d dimensions, looked up there, and
    the code projected back: factorised codes, as in DAC (Kumar et al. 2023, arXiv
    2306.06546, section 3.2), which also searches `by_direction`. The codebook is then
    `[V, d]`.

    With `weights` `[D]` (or `[d]` behind a projection), the nearest code is sought with
    each dimension multiplied by its weight: what has weight 0 is not listened to. The
    code is still a whole vector; in dimensions of weight 0 it is, with "ema", what
    goes with that code on average.

    A new codebook is random: call `start` with real latents before training it, or
    see it collapse.
    """

    def __init__(
        self, size: int, width: int, config: VQConfig | None = None,
        weights: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if size < 2 or width < 1:
            raise ValueError(
                f"a codebook needs size >= 2 and width >= 1, got {size} and {width}"
            )
        self.size = size
        self.width = width
        self.config = config = config or VQConfig()
        if config.code_width is None:
            self.project_in, self.project_out = nn.Identity(), nn.Identity()
        else:
            self.project_in = nn.Linear(width, config.code_width)
            self.project_out = nn.Linear(config.code_width, width)
        codebook = torch.randn(size, config.code_width or width)
        if weights is not None and weights.shape != codebook.shape[1:]:
            raise ValueError(
                f"weights must be [{codebook.shape[1]}], one for each dimension in "
                f"which codes are sought, got {list(weights.shape)}"
            )
        self.register_buffer("weights", weights, persistent=False)
        if config.update == "gradient":
            self.codebook = nn.Parameter(codebook)
        else:  # a buffer: no gradient moves it, yet it is saved
            self.register_buffer("codebook", codebook)
        self.register_buffer("use", torch.ones(size))  # [V], running count

    def extra_repr(self) -> str:
        return f"size={self.size}, width={self.width}, {self.config}"

    @torch.no_grad()
    def start(self, latents: Tensor, generator: torch.Generator | None = None) -> None:
        """Place the codebook by k-means on `latents` `[..., D]`."""
        points = self.project_in(latents).flatten(0, -2)
        centres = kmeans(self._heard(points), self.size, generator=generator)
        if self.weights is not None:  # whole vectors: means over each centre's points
            codes = nearest(self._heard(points), centres)
            count, total = count_and_sum(points, codes, self.size)
            centres = total / count.clamp(min=1).unsqueeze(1)
        self.codebook.copy_(centres)
        self.use.fill_(1.0)

    def _heard(self, points: Tensor) -> Tensor:
        return points if self.weights is None else points * self.weights

    @torch.no_grad()
    def encode(self, latents: Tensor) -> Tensor:
        """Nearest codes `[B, F]` of `latents` `[B, F, D]`."""
        if latents.ndim != 3 or latents.shape[-1] != self.width:
            raise ValueError(
                f"latents must be [B, F, {self.width}], got {list(latents.shape)}"
            )
        return self._search(self.project_in(latents))

    def _search(self, points: Tensor) -> Tensor:
        points, codebook = self._heard(points), self._heard(self.codebook)
        if self.config.by_direction:
            points, codebook = nnf.normalize(points, dim=-1), nnf.normalize(codebook)
        return nearest(points, codebook)

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors `[B, F, D]` of `codes` `[B, F]`."""
        return self.project_out(nnf.embedding(codes, self.codebook))

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize `latents` `[B, F, D]`; in training mode also learn from them."""
        codes = self.encode(latents)
        commitment = self.commitment(latents, codes)
        vectors = self.pass_through(latents, codes)
        if self.training:
            self.learn(latents, codes)
        return Quantized(vectors, codes, commitment)

    def commitment(self, latents: Tensor, codes: Tensor) -> Tensor:
        """Mean squared distance of `latents` `[B, F, D]` to their `codes` `[B, F]`."""
        points = self.project_in(latents)
        away = points - nnf.embedding(codes, self.codebook)
        return self._heard(away).square().mean()

    def pass_through(self, latents: Tensor, codes: Tensor) -> Tensor:
        """`decode(codes)`, with a gradient to `latents` and to the projections."""
        points = self.project_in(latents)
        vectors = nnf.embedding(codes, self.codebook)
        return self.project_out(straight_through(vectors, points))

    @torch.no_grad()
    def learn(self, latents: Tensor, codes: Tensor) -> None:
        """Count the use of codes, move running means, restart the dead."""
        points = self.project_in(latents).flatten(0, -2)
        moved, use = follow(
            self.codebook, self.use, points, codes.flatten(), self.config.decay
        )
        codebook = moved if self.config.update == "ema" else self.codebook
        codebook, use = restart(codebook, use, points, self.config.restart_below)
        self.codebook.copy_(codebook)
        self.use.copy_(use)
