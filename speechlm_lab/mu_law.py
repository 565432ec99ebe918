"""From sixteen bits a sample to eight: uniform levels, and mu-law.

A sample is rounded to one of a few levels and kept as its number, a code. Both
ways work on tensors of any shape. These names are also in `speechlm_lab.spectral`.
"""

import math

import torch
from torch import Tensor


def quantize_uniform(wave: Tensor, levels: int = 256) -> Tensor:
    """Round each sample to the nearest of evenly spaced levels.

    The levels run from -1 to 1, both included, 2 / (levels - 1) apart, so the
    error is at most 1 / (levels - 1). Samples beyond [-1, 1] go to the end levels.

    Args:
        wave: [..., T] floating point in [-1, 1].
        levels: how many levels, at least 2.

    Returns:
        [..., T] int64 in 0 .. levels - 1.

    Raises:
        ValueError: fewer than 2 levels, or samples that are integers.
    """
    if levels < 2 or not wave.is_floating_point():
        raise ValueError("quantising takes at least 2 levels and a float wave")
    return ((wave.clamp(-1, 1) + 1) / 2 * (levels - 1)).round().long()


def dequantize_uniform(codes: Tensor, levels: int = 256) -> Tensor:
    """The level in [-1, 1] that each code of `quantize_uniform` stands for.

    Args:
        codes: [..., T] integers in 0 .. levels - 1.
        levels: as given to `quantize_uniform`.

    Returns:
        [..., T] float32 in [-1, 1].

    Raises:
        ValueError: codes that are no integers or outside that range.
    """
    if codes.is_floating_point() or ((codes < 0) | (codes >= levels)).any():
        raise ValueError(f"codes must be integers in 0 .. {levels - 1}")
    return 2 * codes.float() / (levels - 1) - 1


def mu_law_compress(wave: Tensor, levels: int = 256) -> Tensor:
    """Stretch quiet samples, squeeze loud ones: sign(x) ln(1 + mu |x|) / ln(1 + mu).

    The continuous mu-law curve behind ITU-T G.711 (which approximates it by
    straight pieces), with mu = levels - 1. Maps [-1, 1] onto [-1, 1].

    Raises:
        ValueError: samples that are integers.
    """
    if not wave.is_floating_point():
        raise ValueError("mu-law takes a float wave in [-1, 1]")
    mu = levels - 1
    return wave.sign() * torch.log1p(mu * wave.abs()) / math.log1p(mu)


def mu_law_expand(squeezed: Tensor, levels: int = 256) -> Tensor:
    """Undo `mu_law_compress`: sign(y) ((1 + mu)^|y| - 1) / mu, with mu = levels - 1."""
    mu = levels - 1
    return squeezed.sign() * torch.expm1(squeezed.abs() * math.log1p(mu)) / mu


def mu_law_encode(wave: Tensor, levels: int = 256) -> Tensor:
    """Round samples to mu-law codes: compress, then quantise uniformly.

    Near 0 the levels lie 2 ln(1 + mu) / mu^2 apart, mu = levels - 1, at full scale
    about 2 ln(1 + mu) / mu: the error grows with the sample, and a quiet
    one is kept finely.

    Args:
        wave: [..., T] floating point in [-1, 1]; beyond that it is clipped.
        levels: how many codes, at least 2; 256 is 8 bits a sample.

    Returns:
        [..., T] int64 in 0 .. levels - 1.

    Raises:
        ValueError: fewer than 2 levels, or samples that are integers.
    """
    return quantize_uniform(mu_law_compress(wave, levels), levels)


def mu_law_decode(codes: Tensor, levels: int = 256) -> Tensor:
    """The sample in [-1, 1] that each code of `mu_law_encode` stands for, [..., T]."""
    return mu_law_expand(dequantize_uniform(codes, levels), levels)
