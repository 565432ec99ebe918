"""Codebooks in a row, each for what the ones before it left over."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from speechlm_lab.quantize.vq import Quantized, VectorQuantizer, VQConfig


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
        config: VQConfig | None = None,
        weights: Tensor | None = None,
    ) -> None:
        """codebooks: K; size: V; width: D; dropout: 0 to 1; config: of each level.

        weights: `[K, D]`, what each level listens to (see `VectorQuantizer`); all
            alike when None.
        """
        super().__init__()
        if codebooks < 1:
            raise ValueError(f"codebooks must be at least 1, got {codebooks}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability, got {dropout}")
        self.dropout = dropout
        self.levels = nn.ModuleList(
            VectorQuantizer(size, width, config, None if weights is None else row)
            for row in (range(codebooks) if weights is None else weights)
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

    @torch.no_grad()
    def encode(self, latents: Tensor, levels: int | None = None) -> Tensor:
        """Codes `[B, k, F]` of `latents` `[B, F, D]`, of the first `levels` (all)."""
        levels = self.codebooks if levels is None else levels
        if not 1 <= levels <= self.codebooks:
            raise ValueError(f"levels must lie in 1..{self.codebooks}, got {levels}")
        residual = latents
        codes = []
        for level in self.levels[:levels]:
            codes.append(level.encode(residual))
            residual = residual - level.decode(codes[-1])
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor, levels: int | None = None) -> Tensor:
        """Latents `[B, F, D]` of `codes` `[B, k, F]`, k <= K.

        Uses the first `levels` of them, all that are given when it is None.
        """
        if codes.is_floating_point() or codes.dtype == torch.bool:
            raise ValueError(f"codes must be integers [B, k, F], got {codes.dtype}")
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
        codes = codes.long()
        vectors = self.levels[0].decode(codes[:, 0])
        for k in range(1, levels):
            vectors = vectors + self.levels[k].decode(codes[:, k])
        return vectors

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize `latents` `[B, F, D]`; in training mode also learn from them.

        `commitment` is the mean over levels.
        """
        kept = self.kept_levels(len(latents)).to(latents.device)  # [B]
        residual = latents
        vectors = torch.zeros_like(latents)
        codes, commitments = [], []
        for k, level in enumerate(self.levels):
            chosen = level.encode(residual)
            # The same numbers, with all earlier codes taken for constants. In
            # `residual` each pass_through subtracts its gradient (all of it where
            # nothing is projected): the commitment loss of the later levels would
            # never reach the encoder.
            free = residual.detach() + (latents - latents.detach())
            commitments.append(level.commitment(free, chosen))
            step = level.pass_through(residual, chosen)
            if self.training:
                level.learn(residual, chosen)
            codes.append(chosen)
            vectors = vectors + step * (k < kept)[:, None, None]
            residual = residual - step
        return Quantized(
            vectors, torch.stack(codes, dim=1), torch.stack(commitments).mean()
        )

    def kept_levels(self, batch: int) -> Tensor:
        """How many levels each of `batch` items is decoded from, drawn: `[B]`."""
        every = torch.full((batch,), self.codebooks)
        if not self.training or self.dropout == 0:
            return every
        some = torch.randint(1, self.codebooks + 1, (batch,))
        return torch.where(torch.rand(batch) < self.dropout, some, every)


def from_dac(state: Mapping[str, Tensor]) -> ResidualVQ:
    """A `ResidualVQ` with the codebooks and projections of a DAC.

    It decodes DAC's codes to DAC's latents, `[B, F, D]` where DAC has `[B, D, F]`.

    Args:
        state: `state_dict()` of a `dac.nn.quantize.ResidualVectorQuantize`.

    Raises:
        ValueError: another model's weights.
    """
    levels = 1 + max(
        (int(k.split(".")[1]) for k in state if k.startswith("quantizers.")), default=-1
    )
    try:
        ours = {}
        for k in range(levels):
            theirs, name = f"quantizers.{k}.", f"levels.{k}."
            ours[name + "codebook"] = state[theirs + "codebook.weight"]
            for way in ("in", "out"):
                # weight normalisation keeps length and direction of each row apart
                length = state[f"{theirs}{way}_proj.weight_g"]  # [out, 1, 1]
                direction = state[f"{theirs}{way}_proj.weight_v"]  # [out, in, 1]
                weight = torch._weight_norm(direction, length, 0)
                ours[f"{name}project_{way}.weight"] = weight.squeeze(2)
                ours[f"{name}project_{way}.bias"] = state[f"{theirs}{way}_proj.bias"]
        size, code_width = ours["levels.0.codebook"].shape
        width = len(ours["levels.0.project_out.bias"])
    except KeyError as error:
        raise ValueError(
            f"this is no state of dac.nn.quantize.ResidualVectorQuantize: {error} is "
            "missing; pass model.quantizer.state_dict() of a dac.DAC"
        ) from None
    config = VQConfig(
        update="gradient", restart_below=0, code_width=code_width, by_direction=True
    )
    quantizer = ResidualVQ(levels, size, width, config=config)
    uses = {f"levels.{k}.use": torch.ones(size) for k in range(levels)}
    quantizer.load_state_dict(ours | uses)
    return quantizer.eval()
