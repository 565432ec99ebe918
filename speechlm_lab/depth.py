"""A depth Transformer: the K codes of one frame, predicted one after another.

K linear heads on one hidden state predict the levels of a frame at once, so no level
knows what was drawn for the others. Here a small Transformer runs over the K levels
of the frame instead, once a frame, and the large one, the backbone, still runs over
the frames. So a code sees all levels below it, as under `patterns.flatten`, while the
backbone's sequence stays as short as under `patterns.parallel`. For one frame, h the
backbone's hidden state, e_k the embedding of the code of level k:

    position   0        1          2          3
    input      h        h + e_0    h + e_1    h + e_2
    predicts   level 0  level 1    level 2    level 3

The RQ-Transformer (Lee et al. 2022, arXiv 2203.01941) introduced it for images; Moshi
(Défossez et al. 2024, arXiv 2410.00037) draws speech with one. The inputs are those
of Moshi without its text, which it embeds at position 0. There each level has weights
of its own; here the levels share theirs, but for embeddings and heads.
"""

import torch
from torch import Tensor, nn

from speechlm_lab.sampling import Sampling
from speechlm_lab.stepping import Trunk, array, product
from speechlm_lab.transformer import Layer, LMConfig, rotations


class DepthTransformer(nn.Module):
    """Predicts level k of a frame from a hidden state and the levels below k.

    `config` gives its sizes: `codebooks` is the number of positions it runs over.
    `backbone` is the width of the hidden states, `config.width` if None. A code may
    be V, the blank, in what it reads.
    """

    def __init__(self, config: LMConfig, backbone: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = config.width if backbone is None else backbone
        self.into = nn.Linear(self.backbone, config.width, bias=False)
        self.embeddings = nn.ModuleList(  # none of the last level: nothing follows it
            nn.Embedding(config.codebook_size + 1, config.width)
            for _ in range(config.codebooks - 1)
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

    def forward(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Logits `[B, K, S, V]` of `codes` `[B, K, S]`, given the true lower levels.

        `hidden` `[B, S, D]` at s is the state from which frame s is predicted, that
        of the backbone's step before it. The last level of `codes` is not read.
        """
        self._check(hidden, 3)
        batch, steps, _ = hidden.shape
        codebooks = self.config.codebooks
        if codes.shape != (batch, codebooks, steps):
            raise ValueError(
                f"codes must be {[batch, codebooks, steps]} for hidden states "
                f"{list(hidden.shape)}, got {list(codes.shape)}"
            )
        h = self.into(hidden)
        inputs = [h] + [h + e(codes[:, k]) for k, e in enumerate(self.embeddings)]
        # frames do not see each other here: each is one row, its levels the steps
        x = torch.stack(inputs, dim=2).flatten(0, 1)  # [B * S, K, width]
        x = self._trunk(x).unflatten(0, (batch, steps))  # [B, S, K, width]
        return torch.stack([head(x[:, :, k]) for k, head in enumerate(self.heads)], 1)

    @torch.no_grad()
    def generate(
        self,
        hidden: Tensor,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
        recent: Tensor | None = None,
        trunk: Trunk | None = None,
    ) -> Tensor:
        """Draw the codes int64 `[B, K]` of one frame from its `hidden` `[B, D]`.

        `recent` `[B, K, N]` are the newest codes of each level, which the penalty of
        `sampling` looks at; needed if there is one. `trunk` is that of `trunk()`, for
        those who draw many frames; it is on the CPU, as the drawing is.
        """
        self._check(hidden, 2)
        sampling = sampling or Sampling()
        trunk = trunk or self.trunk()
        trunk.at = 0
        h = product(hidden.cpu().numpy(), array(self.into))  # [B, width]
        codes: list[Tensor] = []
        for k, head in enumerate(self.heads):
            x = h if k == 0 else h + array(self.embeddings[k - 1])[codes[-1].numpy()]
            logits = torch.from_numpy(product(trunk(x), array(head)))  # [B, V]
            heard = None if recent is None else recent[:, k]
            codes.append(sampling.draw(logits, generator, heard))
        return torch.stack(codes, dim=1).to(hidden.device)

    def trunk(self) -> Trunk:
        """Layers and norm for one level at a time."""
        return Trunk(self.layers, self.norm, self.config, room=len(self.heads))

    def _trunk(self, x: Tensor) -> Tensor:
        """Layers and norm on `[N, levels, width]`."""
        c = self.config
        turn = rotations(0, x.shape[1], c.width // c.heads, c.rope_base, x.device)
        for layer in self.layers:
            x = layer(x, turn)
        return self.norm(x)

    def _check(self, hidden: Tensor, ndim: int) -> None:
        if hidden.ndim != ndim or hidden.shape[-1] != self.backbone:
            dims = "B, S" if ndim == 3 else "B"
            raise ValueError(
                f"hidden must be [{dims}, {self.backbone}], got {list(hidden.shape)}"
            )
