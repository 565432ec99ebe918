"""A decoder-only Transformer over codes and text.

At each step the model sees one code of each of K levels, or a blank, embeds and adds
them, and predicts what the next step holds, one linear head a level. In which step a
code stands is decided by the pattern of its configuration, one of `ORDERS`:

    parallel         a frame a step; its levels are predicted at once
    delay            level k stands k steps later (see `patterns.delay`)
    flatten          a code a step, frame after frame
    coarse-to-fine   a code a step, level after level
    depth            a frame a step; its levels by a `DepthTransformer`, in turn

A model with `texts` has one more stream beside the levels, of text tokens, and is told
at each step what part it plays, its role: `layout` says how speech is written so.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from speechlm_lab.depth import DepthTransformer
from speechlm_lab.patterns import PATTERNS
from speechlm_lab.sampling import Sampling
from speechlm_lab.shipped import Pretrained
from speechlm_lab.stepping import Stepper
from speechlm_lab.transformer import (
    Attention,
    FeedForward,
    KVCache,
    Layer,
    LMConfig,
    rotate,
    rotations,
)

__all__ = [
    "ORDERS",
    "Attention",
    "FeedForward",
    "KVCache",
    "LMConfig",
    "LanguageModel",
    "Layer",
    "places",
    "rotate",
    "rotations",
    "spread",
]

ORDERS = (*PATTERNS, "depth")  # what `LMConfig.pattern` can be


def places(pattern: str, codebooks: int, frames: int) -> Tensor:
    """The step at which each code is written, int64 `[K, F]`."""
    if pattern == "depth":  # its backbone takes a frame a step
        pattern = "parallel"
    codes = torch.arange(codebooks * frames)  # each code is its own number
    laid = PATTERNS[pattern].lay(codes.view(1, codebooks, frames), -1)[0]
    steps = torch.arange(laid.shape[1]).expand_as(laid)
    at = torch.empty_like(codes)
    at[laid[laid >= 0]] = steps[laid >= 0]
    return at.view(codebooks, frames)


def spread(codes: Tensor, at: Tensor, blank: int) -> Tensor:
    """Codes `[B, K, F]` put in their steps `at` `[K, F]`: `[B, K, S]`, else blank."""
    last = int(at.max()) if at.numel() else -1
    steps = codes.new_full((*codes.shape[:2], last + 1), blank)
    return steps.scatter_(2, at.expand_as(codes), codes)


class LanguageModel(
    nn.Module,
    Pretrained,
    coders={LMConfig: (vars, lambda values: LMConfig(**values))},
):
    """Predicts the codes of a step from those of the steps before it.

    Steps are int64 `[B, K, S]`, laid out as the configuration's pattern says, each code
    in 0..V, where V is the blank. With `texts`, beside them goes what is seen of the
    text, `[B, 5, S]` (see `layout.TextSlots`), and with `roles` a role `[B, S]`.
    """

    def __init__(self, config: LMConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LMConfig()
        if config.pattern not in ORDERS:
            raise ValueError(
                f"no pattern {config.pattern!r}: choose from {', '.join(ORDERS)}"
            )
        if config.pattern != "delay" and (config.texts or config.roles):
            raise ValueError(
                "`layout` writes speech beside text with the pattern delay, not "
                f"{config.pattern}"
            )
        in_turn = config.pattern == "depth"
        self.embeddings = nn.ModuleList(
            nn.Embedding(config.codebook_size + 1, config.width)
            for _ in range(config.codebooks)
        )
        if config.texts:
            sizes = [config.texts] * 3 + [config.text_places] * 2
            self.text_embeddings = nn.ModuleList(
                nn.Embedding(size, config.width) for size in sizes
            )
            self.text_head = nn.Linear(config.width, config.texts, bias=False)
        if config.roles:
            self.role_embedding = nn.Embedding(config.roles, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=1e-6)
        self.heads = nn.ModuleList(
            nn.Linear(config.width, config.codebook_size, bias=False)
            for _ in range(0 if in_turn else config.codebooks)
        )
        if in_turn:
            self.depth = DepthTransformer(config.of_depth, config.width)
        self.apply(self._start)
        if config.texts:  # waves, so that the next place is a turn away, as in `rotate`
            half = config.width // 2
            cos, sin = rotations(0, config.text_places, config.width, config.rope_base)
            waves = torch.cat([cos[:, :half], sin[:, half:]], dim=1)
            self.text_embeddings[3].weight.data.copy_(0.04 * waves)

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
            x = x + sum(e(text[:, i]) for i, e in enumerate(self.text_embeddings))
        if roles is not None:
            x = x + self.role_embedding(roles)
        return x

    def hidden(
        self,
        x: Tensor,
        caches: list[KVCache] | None = None,
        positions: Tensor | None = None,
        last: int | None = None,
    ) -> Tensor:
        """What the layers make of embedded steps: `[B, S, D]` to `[B, S, D]`.

        With `caches`, one a layer, the steps continue those that the caches hold.
        `positions` `[S]` are those of the steps; None: they are counted. With `last`,
        which needs caches, only the last so many are computed to the end and returned.
        """
        c, start, count = self.config, 0, x.shape[1]
        if positions is not None:
            count = int(positions.max()) + 1
        elif caches is not None:
            start = len(caches[0])
        turn = rotations(start, count, c.width // c.heads, c.rope_base, x.device)
        if positions is not None:
            turn = (turn[0][positions], turn[1][positions])
        # in the last layer, steps that nobody asks for need keys and values alone
        unasked = 0 if last is None else x.shape[1] - last
        for i, layer in enumerate(self.layers):
            if unasked and i + 1 == c.layers:
                known = layer.attention_norm(x[:, :unasked])
                _, *pair = layer.attention.split(known, [t[:unasked] for t in turn])
                caches[i].append(*pair)
                x, turn = x[:, unasked:], [t[unasked:] for t in turn]
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
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits `[B, K, S, V]` of the codes after each of `steps` `[B, K, S]`.

        All heads on every step; those that the pattern leaves blank mean nothing.
        """
        if self.config.pattern == "depth":
            raise ValueError(
                "with the pattern depth a level has no logits before those below it "
                "are known: use nats or generate"
            )
        x = self.hidden(self.embed(steps, text, roles), caches, positions)
        return torch.stack([head(x) for head in self.heads], dim=1)

    def nats(self, codes: Tensor, mask: float = 0.0) -> Tensor:
        """Cross-entropy in nats of each code, `[B, K, F]`, given those before it.

        `mask` is the share of input steps that are blanked out in training, which
        makes the model look further back than the newest step.
        """
        at = self._places(codes.shape[2]).to(codes.device)
        steps = spread(codes, at, self.config.blank)
        inputs = nnf.pad(steps[..., :-1], (1, 0), value=self.config.blank)
        if mask:
            drop = torch.rand(len(codes), 1, inputs.shape[2]) < mask
            inputs = inputs.masked_fill(drop.to(inputs.device), self.config.blank)
        x = self.hidden(self.embed(inputs), positions=self._positions(codes.shape[2]))
        if self.config.pattern == "depth":
            logits = self.depth(x, codes)
        else:  # each head on its own steps alone
            logits = [head(x[:, at[k]]) for k, head in enumerate(self.heads)]
            logits = torch.stack(logits, dim=1)  # [B, K, F, V]
        return nnf.cross_entropy(
            logits.flatten(0, 2),
            codes.flatten(),
            ignore_index=self.config.blank,
            reduction="none",
        ).view_as(codes)

    def loss(self, codes: Tensor, mask: float = 0.0) -> Tensor:
        """Mean of `nats` for each level, `[K]`, over all codes that are not blank."""
        given = (codes != self.config.blank).sum((0, 2))
        return self.nats(codes, mask).sum((0, 2)) / given

    def _places(self, frames: int) -> Tensor:
        return places(self.config.pattern, self.config.codebooks, frames)

    def _positions(self, frames: int) -> Tensor | None:
        """Positions of the steps: None, counted, or of the frame that they write."""
        if self.config.pattern != "coarse-to-fine":
            return None
        # a code is then as far from a lower level's as their frames are apart
        return torch.arange(frames).repeat(self.config.codebooks)

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

        The prompt's frames are given in all levels; only the others are drawn, in the
        order of the pattern, on the CPU (see `stepping`). `temperature`, `top_k`,
        `top_p` and `generator` are those of `sampling.sample`.
        """
        if frames < 0:
            raise ValueError(f"frames must be at least 0, got {frames}")
        if frames == 0:
            return prompt.clone()
        sampling, blank = Sampling(temperature, top_k, top_p), self.config.blank
        total = prompt.shape[2] + frames
        at, positions = self._places(total), self._positions(total)
        # -1 marks the codes that are still to be drawn
        steps = spread(nnf.pad(prompt.cpu(), (0, frames), value=-1), at, blank)
        # the levels that are to be drawn at each step, the same in every row
        due = [[k for k, c in enumerate(ks) if c == -1] for ks in steps[0].T.tolist()]
        first = next(s for s, levels in enumerate(due) if levels)
        caches = [KVCache() for _ in self.layers]
        # start, then all steps that are known in every level
        seen = nnf.pad(steps[..., :first], (1, 0), value=blank).to(prompt.device)
        before = None if positions is None else positions[: first + 1]
        x = self.hidden(self.embed(seen), caches, before)[:, -1].cpu()
        stepper = Stepper(self, caches)
        in_turn = self.depth.trunk() if self.config.pattern == "depth" else None
        for s, levels in enumerate(due[first:], start=first):
            if levels and in_turn is not None:
                drawn = self.depth.generate(x, sampling, generator, trunk=in_turn)
                steps[..., s] = drawn
            elif levels:
                logits = stepper.logits(x, levels)
                # (NumPy indexes sooner)
                steps.numpy()[:, levels, s] = sampling.draw(logits, generator).numpy()
            if s + 1 < steps.shape[2]:
                now = None if positions is None else int(positions[s + 1])
                x = stepper(steps[..., s], position=now)
        return steps.gather(2, at.expand(len(steps), -1, -1)).to(prompt.device)
