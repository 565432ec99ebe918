"""A decoder-only Transformer over codes.

At each step the model sees one code of each of K levels, embeds and adds them, and
predicts the K codes of the next step, one linear head a level. The layers are those
of Llama: RMSNorm before each half-layer, rotary positions, SwiGLU, no biases.
"""

from dataclasses import dataclass

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as nnf

from speechlm_lab.patterns import delay, undelay
from speechlm_lab.sampling import sample


@dataclass(frozen=True)
class LMConfig:
    """Sizes of a `LanguageModel`."""

    codebooks: int = 4  # K, levels it reads and predicts
    codebook_size: int = 512  # V, codes a level
    width: int = 192  # D, channels of the residual stream
    layers: int = 6  # Transformer layers
    heads: int = 3  # attention heads
    hidden: int = 512  # channels inside the feed-forward half-layers
    rope_base: float = 10_000.0  # longest wavelength of the positions, in steps / 2 pi

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} must split into {self.heads} heads of even width"
            )

    @property
    def blank(self) -> int:
        """The code that stands for "none here": starts, corners, masked inputs."""
        return self.codebook_size


class KVCache:
    """Keys and values of the steps a layer has seen, `[B, heads, S, D / heads]`."""

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


def rotate(x: Tensor, start: int, base: float) -> Tensor:
    """Rotary positions on `x` `[B, heads, S, d]`, whose first step is number `start`.

    Channel pair (i, i + d/2) of step s is turned by the angle s / base^(2i/d), so
    that the product of two steps depends on their distance alone (RoFormer: Su et al.
    2021, arXiv 2104.09864, equation 34, in the pairing of Llama).
    """
    half = x.shape[-1] // 2
    exponent = torch.arange(half, device=x.device) / half
    steps = torch.arange(start, start + x.shape[2], device=x.device)
    angle = steps[:, None] * base**-exponent  # [S, d / 2]
    cos, sin = angle.cos(), angle.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    """Causal self-attention; `[B, S, D]` to `[B, S, D]`."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.rope_base = config.rope_base
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        batch, steps, width = x.shape
        start = 0 if cache is None else len(cache)
        split = self.qkv(x).view(batch, steps, 3, self.heads, -1)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # [B, heads, S, d] each
        queries = rotate(queries, start, self.rope_base)
        keys = rotate(keys, start, self.rope_base)
        if cache is not None:
            keys, values = cache.append(keys, values)
        # query s (number start + s) sees keys 0 to start + s
        mask = None
        if start and steps > 1:
            mask = torch.ones(
                steps, start + steps, dtype=torch.bool, device=x.device
            ).tril(start)
        y = nnf.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=start == 0
        )
        return self.out(y.transpose(1, 2).reshape(batch, steps, width))


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

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


class LanguageModel(
    nn.Module,
    PyTorchModelHubMixin,
    coders={LMConfig: (vars, lambda values: LMConfig(**values))},
):
    """Predicts the codes of a step from those of the steps before it.

    Steps are int64 `[B, K, S]`, laid out by `patterns.delay`, each code in 0..V,
    where V is the blank.
    """

    def __init__(self, config: LMConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LMConfig()
        self.embeddings = nn.ModuleList(
            nn.Embedding(config.codebook_size + 1, config.width)
            for _ in range(config.codebooks)
        )
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=1e-6)
        self.heads = nn.ModuleList(
            nn.Linear(config.width, config.codebook_size, bias=False)
            for _ in range(config.codebooks)
        )
        self.apply(self._start)

    def _start(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def embed(self, steps: Tensor) -> Tensor:
        """Sum over levels of the codes' embeddings: `[B, K, S]` to `[B, S, D]`."""
        if steps.ndim != 3 or steps.shape[1] != self.config.codebooks:
            raise ValueError(
                f"steps must be [B, {self.config.codebooks}, S], got "
                f"{list(steps.shape)}: keep the levels the model was made for"
            )
        return sum(e(steps[:, k]) for k, e in enumerate(self.embeddings))

    def forward(self, steps: Tensor, caches: list[KVCache] | None = None) -> Tensor:
        """Logits `[B, K, S, V]` of the step after each of `steps` `[B, K, S]`.

        With `caches`, one a layer, `steps` continue those that the caches hold.
        """
        x = self.embed(steps)
        for i, layer in enumerate(self.layers):
            x = layer(x, None if caches is None else caches[i])
        x = self.norm(x)
        return torch.stack([head(x) for head in self.heads], dim=1)

    def loss(self, codes: Tensor, mask: float = 0.0) -> Tensor:
        """Cross-entropy in nats of each level, `[K]`, on `codes` `[B, K, F]`.

        `mask` is the share of input steps that are blanked out in training, which
        makes the model look further back than the newest step.
        """
        targets = delay(codes, self.config.blank)
        inputs = nnf.pad(targets[..., :-1], (1, 0), value=self.config.blank)
        if mask:
            drop = torch.rand(len(codes), 1, inputs.shape[2]) < mask
            inputs = inputs.masked_fill(drop.to(inputs.device), self.config.blank)
        logits = self(inputs)  # [B, K, S, V]
        return torch.stack(
            [
                nnf.cross_entropy(
                    logits[:, k].transpose(1, 2),
                    targets[:, k],
                    ignore_index=self.config.blank,  # the corners teach nothing
                )
                for k in range(self.config.codebooks)
            ]
        )

    @torch.no_grad()
    def generate(
        self,
        prompt: Tensor,
        frames: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Continue `prompt` `[B, K, P]`, P >= 0, by `frames`: `[B, K, P + frames]`.

        `temperature`, `top_k`, `top_p` and `generator` are those of `sampling.sample`.
        """
        if frames < 0:
            raise ValueError(f"frames must be at least 0, got {frames}")
        blank, given = self.config.blank, prompt.shape[2]
        # -1 marks the codes that are still to be drawn
        steps = delay(nnf.pad(prompt, (0, frames), value=-1), blank)
        caches = [KVCache() for _ in self.layers]
        # start, then all steps that are known in every level
        seen = nnf.pad(steps[..., :given], (1, 0), value=blank)
        for s in range(given, steps.shape[2]):
            logits = self(seen, caches)[:, :, -1]  # [B, K, V]
            drawn = sample(logits, temperature, top_k, top_p, generator)
            steps[..., s] = torch.where(steps[..., s] == -1, drawn, steps[..., s])
            seen = steps[..., s : s + 1]
        return undelay(steps)
