"""Vector quantization: continuous latents in, integers out.

`VectorQuantizer` replaces each latent vector by the nearest of V learnt vectors
(its codebook). `ResidualVQ` stacks K of them: each level quantizes what the levels
before it left over, so that the first codes are coarse and the later ones refine.

Latents are float tensors `[B, F, D]`; codes are integer tensors `[B, F]` for one
level and `[B, K, F]` for K levels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf


class Quantized(NamedTuple):
    """What a quantizer returns in training."""

    latents: Tensor  # [B, F, D], quantized; the gradient passes straight through
    codes: Tensor  # [B, F] (VectorQuantizer) or [B, K, F] (ResidualVQ), int64
    commitment: Tensor  # scalar, mean squared distance of latents to their codes


def kmeans(
    points: Tensor,
    size: int,
    iterations: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Cluster `points` `[N, D]`; returns `size` centres `[size, D]`.

    Lloyd's algorithm, started from points drawn without replacement. A centre that
    loses all its points is moved to a random point. Raises ValueError when there are
    fewer points than centres.
    """
    if points.ndim != 2 or len(points) < size:
        raise ValueError(
            f"k-means for {size} centres needs at least {size} points [N, D], got "
            f"shape {list(points.shape)}: pool more latents or use fewer centres"
        )

    def random_points(count: int) -> Tensor:
        order = torch.randperm(len(points), generator=generator)
        return points[order[:count].to(points.device)]

    centres = random_points(size)
    for _ in range(iterations):
        nearest = _nearest(points, centres)
        count, total = _count_and_sum(points, nearest, size)
        empty = count == 0
        centres = total / count.clamp(min=1).unsqueeze(1)
        centres[empty] = random_points(int(empty.sum()))
    return centres


def _nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest row of `codebook` `[V, D]` for `points` `[..., D]`."""
    # ||x - c||^2 = ||x||^2 - 2 x.c + ||c||^2; the first term is the same for all c
    distance = codebook.square().sum(1) - 2 * points @ codebook.T
    return distance.argmin(-1)


def _count_and_sum(points: Tensor, codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """How many `points` `[N, D]` fell to each code, and their sum: `[V]`, `[V, D]`."""
    one_hot = nnf.one_hot(codes, size).to(points.dtype)  # [N, V]
    return one_hot.sum(0), one_hot.T @ points


class VectorQuantizer(nn.Module):
    """One codebook of `size` (V) vectors of `width` (D), learnt by moving averages.

    Each code is the running mean of the latents that chose it (van den Oord et al.
    2017, arXiv 1711.00937, appendix A.1), with `decay` for the averages. A code
    whose running use falls under `restart_below` times the mean use is dead; it is
    restarted at a random latent of the batch.

    A new codebook is random: call `start` with real latents before training it.
    """

    def __init__(
        self, size: int, width: int, decay: float = 0.98, restart_below: float = 0.1
    ) -> None:
        super().__init__()
        if size < 2 or width < 1:
            raise ValueError(
                f"a codebook needs size >= 2 and width >= 1, got {size} and {width}"
            )
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.size = size
        self.width = width
        self.decay = decay
        self.restart_below = restart_below
        # buffers, not parameters: no gradient moves them, yet they are saved
        self.register_buffer("codebook", torch.randn(size, width))  # [V, D]
        self.register_buffer("use", torch.ones(size))  # [V], running count

    def extra_repr(self) -> str:
        return f"size={self.size}, width={self.width}, decay={self.decay}"

    @torch.no_grad()
    def start(self, latents: Tensor, generator: torch.Generator | None = None) -> None:
        """Place the codebook by k-means on `latents` `[..., D]`."""
        points = latents.reshape(-1, self.width)
        self.codebook.copy_(kmeans(points, self.size, generator=generator))
        self.use.fill_(1.0)

    def encode(self, latents: Tensor) -> Tensor:
        """Nearest codes `[B, F]` of `latents` `[B, F, D]`."""
        if latents.ndim != 3 or latents.shape[-1] != self.width:
            raise ValueError(
                f"latents must be [B, F, {self.width}], got {list(latents.shape)}"
            )
        return _nearest(latents.detach(), self.codebook)

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors `[B, F, D]` of `codes` `[B, F]`."""
        return nnf.embedding(codes, self.codebook)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize `latents` `[B, F, D]`; in training mode also learn from them."""
        codes = self.encode(latents)
        vectors = self.decode(codes)
        commitment = (latents - vectors).square().mean()
        if self.training:
            self._learn(latents.detach(), codes)
        # straight-through estimator: the value is exactly `vectors`, and the
        # gradient is the one that `latents` would have got
        return Quantized(vectors + (latents - latents.detach()), codes, commitment)

    @torch.no_grad()
    def _learn(self, latents: Tensor, codes: Tensor) -> None:
        points = latents.reshape(-1, self.width)
        count, total = _count_and_sum(points, codes.flatten(), self.size)
        old = self.decay * self.use
        use = old + (1 - self.decay) * count
        moved = old.unsqueeze(1) * self.codebook + (1 - self.decay) * total
        self.codebook.copy_(moved / use.clamp(min=1e-8).unsqueeze(1))
        self.use.copy_(use)

        mean_use = use.mean()
        dead = use < self.restart_below * mean_use
        picks = torch.randint(len(points), (self.size,)).to(points.device)
        self.codebook[dead] = points[picks[dead]]
        self.use[dead] = mean_use


class ResidualVQ(nn.Module):
    """K codebooks in a row, each quantizing the residual of those before it.

    SoundStream (Zeghidour et al. 2021, arXiv 2107.03312, section III-C). With
    `dropout` p, each item of a training batch is decoded, with probability p, from
    a random number of its first levels, so that one model serves every bit rate.
    """

    def __init__(
        self,
        codebooks: int,
        size: int,
        width: int,
        dropout: float = 0.5,
        decay: float = 0.98,
    ) -> None:
        super().__init__()
        if codebooks < 1:
            raise ValueError(f"codebooks must be at least 1, got {codebooks}")
        self.dropout = dropout
        self.levels = nn.ModuleList(
            VectorQuantizer(size, width, decay) for _ in range(codebooks)
        )

    @property
    def codebooks(self) -> int:
        """K, the number of levels."""
        return len(self.levels)

    @torch.no_grad()
    def start(self, latents: Tensor, generator: torch.Generator | None = None) -> None:
        """Place all codebooks by k-means, level after level, on `[B, F, D]`."""
        residual = latents
        for level in self.levels:
            level.start(residual, generator)
            residual = residual - level.decode(level.encode(residual))

    def encode(self, latents: Tensor) -> Tensor:
        """Codes `[B, K, F]` of `latents` `[B, F, D]`."""
        residual = latents.detach()
        codes = []
        for level in self.levels:
            codes.append(level.encode(residual))
            residual = residual - level.decode(codes[-1])
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor, levels: int | None = None) -> Tensor:
        """Latents `[B, F, D]` of `codes` `[B, k, F]`, k <= K.

        Uses the first `levels` of them, all that are given when it is None.
        """
        if codes.ndim != 3 or not 1 <= codes.shape[1] <= self.codebooks:
            raise ValueError(
                f"codes must be [B, k, F] with 1 <= k <= {self.codebooks}, got "
                f"{list(codes.shape)}"
            )
        levels = codes.shape[1] if levels is None else levels
        if not 1 <= levels <= codes.shape[1]:
            raise ValueError(
                f"levels must lie in 1..{codes.shape[1]} for these codes, got {levels}"
            )
        size = self.levels[0].size
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < size:
            raise ValueError(
                f"codes must lie in 0..{size - 1}, got "
                f"{int(codes.min())}..{int(codes.max())}"
            )
        vectors = self.levels[0].decode(codes[:, 0])
        for k in range(1, levels):
            vectors = vectors + self.levels[k].decode(codes[:, k])
        return vectors

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize `latents` `[B, F, D]`; in training mode also learn from them.

        `commitment` is the mean over levels.
        """
        kept = self._kept_levels(len(latents)).to(latents.device)  # [B]
        residual = latents
        codes, commitments = [], []
        vectors = torch.zeros_like(latents)
        for k, level in enumerate(self.levels):
            chosen = level(residual)
            codes.append(chosen.codes)
            commitments.append(chosen.commitment)
            step = chosen.latents.detach()
            # The residual itself is NOT detached: only so does the commitment loss
            # of every level, not of the first alone, reach the encoder.
            residual = residual - step
            vectors = vectors + step * (k < kept)[:, None, None]
        return Quantized(
            vectors + (latents - latents.detach()),
            torch.stack(codes, dim=1),
            torch.stack(commitments).mean(),
        )

    def _kept_levels(self, batch: int) -> Tensor:
        """How many levels each of `batch` items is decoded from, `[B]`."""
        every = torch.full((batch,), self.codebooks)
        if not self.training or self.dropout == 0:
            return every
        some = torch.randint(1, self.codebooks + 1, (batch,))
        return torch.where(torch.rand(batch) < self.dropout, some, every)
