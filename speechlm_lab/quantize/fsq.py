"""Finite scalar quantization: a grid instead of a codebook."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from speechlm_lab.quantize.vq import Quantized, straight_through


def round_to_grid(values: Tensor, levels: tuple[int, ...]) -> Tensor:
    """Digits `[..., d]`: dimension i of `values` on `levels[i]` even steps of [-1, 1].

    Int64, 0 for -1 up to levels[i] - 1 for 1. Values beyond go to the ends.
    """
    top = torch.tensor(levels, device=values.device) - 1
    return ((values.clamp(-1, 1) + 1) / 2 * top).round().long()


def join_digits(digits: Tensor, levels: tuple[int, ...]) -> Tensor:
    """Digits `[..., d]` to one number `[...]`; the first digit counts most."""
    code = torch.zeros_like(digits[..., 0])
    for i, base in enumerate(levels):
        code = code * base + digits[..., i]
    return code


def split_codes(codes: Tensor, levels: tuple[int, ...]) -> Tensor:
    """The inverse of `join_digits`: `[...]` to `[..., d]`."""
    digits = []
    for base in reversed(levels):
        digits.append(codes % base)
        codes = codes // base
    return torch.stack(digits[::-1], dim=-1)


class FSQ(nn.Module):
    """Round each of a few dimensions to `levels` fixed values: nothing can collapse.

    Mentzer et al. 2023, arXiv 2309.15505. The latents are squeezed into (-1, 1) by
    tanh. Each dimension i has `levels[i]` evenly spaced values there, both ends among
    them, so V is the product of `levels`. (The paper shifts dimensions with an even
    number of levels by half a step, to have one at 0; here the grid is symmetric.)
    With `width` D the latents are projected to the dimensions of the grid and back;
    None: they have those dimensions already.
    """

    def __init__(self, levels: Sequence[int], width: int | None = None) -> None:
        super().__init__()
        if len(levels) < 1 or min(levels) < 2:
            raise ValueError(
                f"FSQ needs 2 levels or more in each dimension, got {list(levels)}"
            )
        self.levels = tuple(levels)
        self.width = len(levels) if width is None else width
        if width is None:
            self.project_in, self.project_out = nn.Identity(), nn.Identity()
        else:
            self.project_in = nn.Linear(width, len(levels))
            self.project_out = nn.Linear(len(levels), width)

    @property
    def size(self) -> int:
        """V, the number of codes."""
        return math.prod(self.levels)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, width={self.width}"

    @torch.no_grad()
    def encode(self, latents: Tensor) -> Tensor:
        """Codes `[B, F]` of `latents` `[B, F, D]`."""
        return join_digits(
            round_to_grid(self._squeeze(latents), self.levels), self.levels
        )

    def _squeeze(self, latents: Tensor) -> Tensor:
        if latents.ndim != 3 or latents.shape[-1] != self.width:
            raise ValueError(
                f"latents must be [B, F, {self.width}], got {list(latents.shape)}"
            )
        return self.project_in(latents).tanh()

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors `[B, F, D]` of `codes` `[B, F]`."""
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.size:
            raise ValueError(
                f"codes must lie in 0..{self.size - 1}, got "
                f"{int(codes.min())}..{int(codes.max())}"
            )
        return self.project_out(self._on_grid(split_codes(codes, self.levels)))

    def _on_grid(self, digits: Tensor) -> Tensor:
        top = torch.tensor(self.levels, device=digits.device) - 1
        return 2 * digits / top - 1

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize `latents` `[B, F, D]`. There is no commitment loss: it is 0."""
        squeezed = self._squeeze(latents)
        digits = round_to_grid(squeezed.detach(), self.levels)
        vectors = straight_through(self._on_grid(digits), squeezed)
        return Quantized(
            self.project_out(vectors),
            join_digits(digits, self.levels),
            latents.new_zeros(()),
        )
