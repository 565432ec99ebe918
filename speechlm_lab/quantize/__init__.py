"""Vector quantization: continuous latents in, integers out.

`VectorQuantizer` replaces each latent vector by the nearest of V learnt vectors (its
codebook). `ResidualVQ` stacks K of them: each level quantizes what the levels before
it left over, so that the first codes are coarse and the later ones refine. `FSQ` has
no codebook to learn: it rounds each of a few dimensions to a fixed grid. `balance` and
`balance_levels` fit codebooks once more, when all else is learnt, for even use.

Latents are float tensors `[B, F, D]`; codes are integer tensors `[B, F]` for one
level and `[B, K, F]` for K levels.
"""

from speechlm_lab.quantize.balance import balance, balance_levels
from speechlm_lab.quantize.fsq import FSQ, join_digits, round_to_grid, split_codes
from speechlm_lab.quantize.residual import ResidualVQ, from_dac
from speechlm_lab.quantize.vq import (
    Quantized,
    VectorQuantizer,
    VQConfig,
    count_and_sum,
    follow,
    kmeans,
    nearest,
    restart,
    straight_through,
)

__all__ = [
    "FSQ",
    "Quantized",
    "ResidualVQ",
    "VQConfig",
    "VectorQuantizer",
    "balance",
    "balance_levels",
    "count_and_sum",
    "follow",
    "from_dac",
    "join_digits",
    "kmeans",
    "nearest",
    "restart",
    "round_to_grid",
    "split_codes",
    "straight_through",
]
