"""The layers of a decoder-only Transformer, and the sizes of one.

They are those of Llama: RMSNorm before each half-layer, rotary positions, SwiGLU, no
biases, grouped queries. `lm` builds a model over codes from them, `depth` a small one
over the levels of a frame.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf


@dataclass(frozen=True)
class LMConfig:
    """Sizes of a `LanguageModel`."""

    codebooks: int = 4  # K, levels it reads and predicts
    codebook_size: int = 512  # V, codes a level
    width: int = 192  # D, channels of the residual stream
    layers: int = 6  # Transformer layers
    heads: int = 3  # attention heads
    kv_heads: int = 0  # heads of keys and values, shared by queries; 0: as `heads`
    hidden: int = 512  # channels inside the feed-forward half-layers
    rope_base: float = 10_000.0  # longest wavelength of the positions, in steps / 2 pi
    texts: int = 0  # text tokens it reads and predicts; 0: codes alone
    roles: int = 0  # parts that a step can play; 0: no such embedding
    text_places: int = 256  # places in a text, and steps a token lasts, that have names
    pattern: str = "delay"  # order in which codes are written, one of `lm.ORDERS`
    depth_layers: int = 1  # layers of the depth Transformer, if that is the pattern
    depth_width: int = 0  # its channels, in heads as wide as the others; 0: as `width`

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} must split into {self.heads} heads of even width"
            )
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(
                f"{self.heads} heads cannot share {self.kv_heads} heads of keys evenly"
            )

    @property
    def of_depth(self) -> "LMConfig":
        """Sizes of the depth Transformer: heads as wide, feed-forward in proportion."""
        width = self.depth_width or self.width
        return replace(
            self,
            width=width,
            layers=self.depth_layers,
            heads=max(1, width * self.heads // self.width),
            kv_heads=0,
            hidden=self.hidden * width // self.width,
        )

    @property
    def blank(self) -> int:
        """The code that stands for "none here": starts, corners, masked inputs."""
        return self.codebook_size


class KVCache:
    """Keys and values of the steps a layer has seen, `[B, kv_heads, S, D / heads]`."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add the newest steps; returns all keys and all values."""
        if self.keys is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


def rotations(
    start: int, steps: int, width: int, base: float, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines `[steps, width]` for `rotate`, from step `start` on.

    Channel pair i of step s is turned by the angle s / base^(2i/width).
    """
    exponent = torch.arange(width // 2, device=device) / (width // 2)
    steps = torch.arange(start, start + steps, device=device)
    angle = steps[:, None] * base**-exponent
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions on `x` `[B, heads, S, d]`: channels i and i + d/2 are turned.

    So the product of two steps depends on their distance alone (RoFormer: Su et al.
    2021, arXiv 2104.09864, equation 34, in the pairing of Llama).
    """
    cos, sin = turn
    partner = x.roll(x.shape[-1] // 2, dims=-1)  # of each channel, the other one
    return torch.addcmul(x * cos, partner, sin)


class Attention(nn.Module):
    """Causal self-attention; `[B, S, D]` to `[B, S, D]`.

    Several heads of queries may share one of keys and values (grouped-query attention:
    Ainslie et al. 2023, arXiv 2305.13245), which makes the cache smaller.
    """

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.kv_heads = config.kv_heads or config.heads
        width = config.width // config.heads
        self.qkv = nn.Linear(
            config.width, (self.heads + 2 * self.kv_heads) * width, bias=False
        )
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], cache: KVCache | None = None
    ) -> Tensor:
        batch, steps, width = x.shape
        start = 0 if cache is None else len(cache)
        queries, keys, values = self.split(x, turn)
        if cache is not None:
            keys, values = cache.append(keys, values)
        # query s (number start + s) sees keys 0 to start + s
        mask = None
        if start and steps > 1:
            mask = torch.ones(
                steps, start + steps, dtype=torch.bool, device=x.device
            ).tril(start)
        y = nnf.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            is_causal=start == 0,
            enable_gqa=self.kv_heads != self.heads,
        )
        return self.out(y.transpose(1, 2).reshape(batch, steps, width))

    def split(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Queries, keys and values of `x`, each `[B, heads or kv_heads, S, d]`."""
        batch, steps, width = x.shape
        split = self.qkv(x).view(batch, steps, -1, width // self.heads).transpose(1, 2)
        turned, values = split.split([self.heads + self.kv_heads, self.kv_heads], 1)
        queries, keys = rotate(turned, turn).split([self.heads, self.kv_heads], 1)
        return queries, keys, values

    def weights(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """How much each step looks at each: `[B, heads, S, S]`, rows add up to 1.

        What `forward` does without ever writing it down; for looking.
        """
        queries, keys, _ = self.split(x, turn)
        keys = keys.repeat_interleave(self.heads // self.kv_heads, dim=1)
        scores = queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5
        later = torch.ones(scores.shape[2:], dtype=torch.bool, device=x.device).triu(1)
        return scores.masked_fill(later, -torch.inf).softmax(-1)


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.hidden, bias=False)
        self.up = nn.Linear(config.width, config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nnf.silu(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    """Attention, then feed-forward, each on a normalised copy and added back."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width, eps=1e-6)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.RMSNorm(config.width, eps=1e-6)
        self.feed_forward = FeedForward(config)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], cache: KVCache | None = None
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), turn, cache)
        return x + self.feed_forward(self.feed_forward_norm(x))
