"""A decoder-only Transformer over codes and text.

At each step the model sees one code of each of K levels, embeds and adds them, and
predicts the K codes of the next step, one linear head a level. The layers are those
of Llama: RMSNorm before each half-layer, rotary positions, SwiGLU, no biases,
grouped queries.

A model with `texts` has one more stream beside the levels, of text tokens, and is told
at each step what part it plays, its role: `layout` says how speech is written so.
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
    kv_heads: int = 0  # heads of keys and values, shared by queries; 0: as `heads`
    hidden: int = 512  # channels inside the feed-forward half-layers
    rope_base: float = 10_000.0  # longest wavelength of the positions, in steps / 2 pi
    texts: int = 0  # text tokens it reads and predicts; 0: codes alone
    roles: int = 0  # parts that a step can play; 0: no such embedding

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
    """Cosines and sines `[steps, width / 2]` for `rotate`, from step `start` on.

    Channel pair i of step s is turned by the angle s / base^(2i/width).
    """
    exponent = torch.arange(width // 2, device=device) / (width // 2)
    steps = torch.arange(start, start + steps, device=device)
    angle = steps[:, None] * base**-exponent
    return angle.cos(), angle.sin()


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions on `x` `[B, heads, S, d]`: channels i and i + d/2 are turned.

    So the product of two steps depends on their distance alone (RoFormer: Su et al.
    2021, arXiv 2104.09864, equation 34, in the pairing of Llama).
    """
    cos, sin = turn
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


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
        queries, keys, values = split.split(
            [self.heads, self.kv_heads, self.kv_heads], dim=1
        )
        return rotate(queries, turn), rotate(keys, turn), values

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


class LanguageModel(
    nn.Module,
    PyTorchModelHubMixin,
    coders={LMConfig: (vars, lambda values: LMConfig(**values))},
):
    """Predicts the codes of a step from those of the steps before it.

    Steps are int64 `[B, K, S]`, laid out by `patterns.delay`, each code in 0..V,
    where V is the blank. With `texts`, beside them goes one text token a step, `[B, S]`
    in 0..texts - 1, and with `roles` a role `[B, S]`.
    """

    def __init__(self, config: LMConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LMConfig()
        self.embeddings = nn.ModuleList(
            nn.Embedding(config.codebook_size + 1, config.width)
            for _ in range(config.codebooks)
        )
        if config.texts:
            self.text_embedding = nn.Embedding(config.texts, config.width)
            self.text_head = nn.Linear(config.width, config.texts, bias=False)
        if config.roles:
            self.role_embedding = nn.Embedding(config.roles, config.width)
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

    def embed(
        self, steps: Tensor, text: Tensor | None = None, roles: Tensor | None = None
    ) -> Tensor:
        """Sum of the embeddings of codes, text and roles: `[B, S, D]`."""
        if steps.ndim != 3 or steps.shape[1] != self.config.codebooks:
            raise ValueError(
                f"steps must be [B, {self.config.codebooks}, S], got "
                f"{list(steps.shape)}: keep the levels the model was made for"
            )
        x = sum(e(steps[:, k]) for k, e in enumerate(self.embeddings))
        if text is not None:
            x = x + self.text_embedding(text)
        if roles is not None:
            x = x + self.role_embedding(roles)
        return x

    def hidden(self, x: Tensor, caches: list[KVCache] | None = None) -> Tensor:
        """What the layers make of embedded steps: `[B, S, D]` to `[B, S, D]`.

        With `caches`, one a layer, the steps continue those that the caches hold.
        """
        start = 0 if caches is None else len(caches[0])
        c = self.config
        turn = rotations(start, x.shape[1], c.width // c.heads, c.rope_base, x.device)
        for i, layer in enumerate(self.layers):
            x = layer(x, turn, None if caches is None else caches[i])
        return self.norm(x)

    @torch.no_grad()
    def attention(self, x: Tensor) -> list[Tensor]:
        """`Attention.weights` of each layer for embedded steps `[B, S, D]`."""
        c, found = self.config, []
        turn = rotations(0, x.shape[1], c.width // c.heads, c.rope_base, x.device)
        for layer in self.layers:
            found.append(layer.attention.weights(layer.attention_norm(x), turn))
            x = layer(x, turn)
        return found

    def forward(
        self,
        steps: Tensor,
        caches: list[KVCache] | None = None,
        text: Tensor | None = None,
        roles: Tensor | None = None,
    ) -> Tensor:
        """Logits `[B, K, S, V]` of the codes after each of `steps` `[B, K, S]`."""
        x = self.hidden(self.embed(steps, text, roles), caches)
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
