"""The training of a toy of Descript's own class, `dac.DAC`.

The model is theirs (package descript-audio-codec), the sizes are small, the weights are
ours: learnt from TinyVoices by the losses below, without their discriminators. It is
not one of Descript's models and does not sound like one.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from pystoi import stoi
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as nnf

from speechlm_lab import parallel
from speechlm_lab.codec import SpectralLoss
from speechlm_lab.codec.descript import DescriptAdapter, import_dac
from speechlm_lab.corpus.tiny_voices import SAMPLE_RATE
from speechlm_lab.quantize import count_and_sum, nearest
from speechlm_lab.recipes.card import write_checkpoint
from speechlm_lab.recipes.pool import Pool, PoolConfig, make_pool
from speechlm_lab.spectral import log_mel
from speechlm_lab.train import TrainConfig, Training, seed_all, step_generator, train

if TYPE_CHECKING:
    from dac import DAC

SHIPPED_DAC = Path(__file__).parents[1] / "checkpoints" / "dac_small"
BEYOND = 10**9  # a number of a step that is never reached

# opens the card, before its table
NOTICE = """
**A toy.** The class is Descript's `dac.DAC` (package descript-audio-codec), the sizes
are about a sixtieth of theirs, and the weights are ours: trained in minutes on
synthetic voices, without discriminators. These are not Descript's weights, and how
this model sounds says nothing about theirs.

`config.json` holds the arguments of `dac.DAC`, `model.safetensors` its `state_dict()`
in half precision: no pickle. `recipes.dac_small.load_dac_small` loads both.

| | |
"""


@dataclass(frozen=True)
class DacSizes:
    """Sizes of a `dac.DAC`, by its own names: `dac.DAC(**asdict(sizes))`."""

    encoder_dim: int = 8  # channels after the first layer; doubled at each stride
    encoder_rates: tuple[int, ...] = (4, 2, 4, 10)  # strides; their product is the hop
    latent_dim: int = 64  # D
    decoder_dim: int = 192  # channels of the first layer; halved at each stride
    decoder_rates: tuple[int, ...] = (10, 4, 2, 4)
    n_codebooks: int = 8  # K
    codebook_size: int = 512  # V
    codebook_dim: int = 8  # dimensions in which codes are searched
    quantizer_dropout: float = 0.5  # share of a batch that is cut to some levels
    sample_rate: int = SAMPLE_RATE  # Hz


@dataclass(frozen=True)
class DacSmallRecipe:
    """All that decides the outcome of the training."""

    model: DacSizes = field(default_factory=DacSizes)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=4_000, learning_rate=1.2e-3, threads=1
        )
    )
    pool: PoolConfig = field(default_factory=PoolConfig)
    batch: int = 4  # clips a step
    clip: float = 0.4  # s, length of a clip
    quietest: float = -20.0  # dB; each clip's gain is drawn between this and 0
    noise: float = -60.0  # dBFS, most of the white noise that is added to a clip
    unquantized: int = 200  # steps before the quantizer comes in
    start_batches: int = 60  # batches whose latents the codebooks start from
    commitment: float = 0.1  # weight of DAC's commitment loss
    codebook: float = 0.5  # weight of DAC's codebook loss
    beyond: float = 1.0  # weight of the square by which latents leave [-1, 1]
    test: PoolConfig = field(
        default_factory=lambda: PoolConfig("held-out", minutes=1.5, speakers=20)
    )  # voices to measure on

    def run(self, folder: Path, resume: bool = True) -> Training:
        """Train, measure and save; takes up what `folder` holds of this recipe."""
        folder.mkdir(parents=True, exist_ok=True)
        pool = parallel.once(
            lambda: make_pool(self.pool, folder / "pool.npz", self.train.threads)
        )
        seed_all(self.train.seed)
        model = import_dac().DAC(**asdict(self.model))
        spectral = SpectralLoss(self.model.sample_rate)

        def loss(step: int) -> dict[str, Tensor]:
            # As in the recipe "codec": first an encoder worth quantizing.
            if step == self.unquantized:
                self._start_codebooks(model, pool)
            wave = self.sample_batch(pool, step)
            latents = model.encoder(wave[:, None])
            commitment = codebook = wave.new_zeros(())
            made = latents
            if step >= self.unquantized:
                made, _, _, commitment, codebook = model.quantizer(latents)
            decoded = model.decode(made)[:, 0]
            # odd strides leave the decoded wave some samples short
            mel = spectral(decoded, wave[:, : decoded.shape[1]])
            # left alone, the latents of some frames grow without end
            beyond = nnf.relu(latents.abs() - 1).square().mean()
            total = mel + self.commitment * commitment + self.codebook * codebook
            total = total + self.beyond * beyond
            return {
                "loss": total, "mel": mel, "commitment": commitment,
                "codebook": codebook, "beyond": beyond,
            }  # fmt: skip

        settings = {k: v for k, v in asdict(self).items() if k not in ("train", "test")}
        training = train(model, loss, self.train, folder, settings, resume)
        if training.finished and parallel.rank() == 0:
            save_dac(model, self.model, folder)  # and measure what was saved
            test = make_pool(self.test, folder / "test.npz", self.train.threads)
            metrics = measure(DescriptAdapter(load_dac_small(folder)), test)
            data = (
                f"TinyVoices, {self.pool.minutes:g} minutes, up to "
                f"{self.pool.speakers} voices, seed {self.pool.seed}"
            )
            kept = Kept(model, self.model)
            write_checkpoint(
                kept, "dac-small", str(self), data, metrics, training, folder
            )
            card = folder / "README.md"
            text = card.read_text(encoding="utf-8")
            card.write_text(text.replace("\n| | |\n", NOTICE, 1), encoding="utf-8")
            for name, value in metrics.items():
                print(f"{name}: {value}")
        return training

    def sample_batch(self, pool: Pool, step: int) -> Tensor:
        """Clips `[B, T]` of one step, each at its own loudness, with a little noise."""
        generator = step_generator(self.train.seed, step)
        length = int(self.clip * SAMPLE_RATE)
        batch = parallel.part(self.batch)
        at = torch.randint(len(pool.wave) - length, (batch,), generator=generator)
        wave = pool.clips(at, length)
        gain, noise = torch.rand(2, batch, 1, generator=generator)
        white = torch.randn(wave.shape, generator=generator)
        loud = wave * 10 ** (self.quietest * gain / 20)
        return loud + white * 10 ** (self.noise / 20) * noise

    @torch.no_grad()
    def _start_codebooks(self, model: "DAC", pool: Pool) -> None:
        # batches that no step takes, however long the training is
        steps = range(BEYOND, BEYOND + self.start_batches)
        waves = [self.sample_batch(pool, step) for step in steps]
        latents = [model.encoder(wave[:, None]) for wave in waves]
        residual = torch.cat(latents).transpose(1, 2).flatten(0, 1)  # [N, D]
        generator = step_generator(self.train.seed, BEYOND)
        for level in model.quantizer.quantizers:
            residual = residual - start_level(level, residual, generator)


class Kept(NamedTuple):
    """A `dac.DAC` as `write_checkpoint` wants a model: it can count and save it."""

    model: "DAC"
    sizes: DacSizes

    def parameters(self) -> Iterator[Tensor]:
        """The model's."""
        return self.model.parameters()

    def save_pretrained(self, folder: Path) -> None:
        """Configuration and weights, as `save_dac` writes them."""
        save_dac(self.model, self.sizes, folder)


@torch.no_grad()
def start_level(
    level: torch.nn.Module, points: Tensor, generator: torch.Generator
) -> Tensor:
    """Start one `dac.nn.quantize.VectorQuantize` where `points` `[N, D]` are.

    Its two projections become the points' principal axes, so that going in and out
    again loses as little as it can; its entries become the centres of k-means by
    direction. DAC itself starts all three at random.

    Returns:
        What the level now makes of the points, `[N, D]`.
    """
    mean = points.mean(0)
    width = level.codebook_dim
    axes = torch.linalg.svd(points - mean, full_matrices=False).Vh[:width]  # [d, D]
    inside = (points - mean) @ axes.T
    centres = kmeans_by_direction(inside, level.codebook_size, generator)
    set_convolution(level.in_proj, axes, -(axes @ mean))
    set_convolution(level.out_proj, axes.T, mean)
    level.codebook.weight.copy_(centres)
    codes = nearest(nnf.normalize(inside), nnf.normalize(centres))
    return centres[codes] @ axes + mean


def kmeans_by_direction(
    points: Tensor, size: int, generator: torch.Generator, iterations: int = 10
) -> Tensor:
    """Centres `[size, d]` of `points` `[N, d]`, each chosen by angle, with a length.

    A centre that loses all its points is moved to a random point.
    """
    order = torch.randperm(len(points), generator=generator)
    centres = points[order[:size]]
    for _ in range(iterations):
        codes = nearest(nnf.normalize(points), nnf.normalize(centres))
        count, total = count_and_sum(points, codes, size)
        centres = total / count.clamp(min=1).unsqueeze(1)
        picks = torch.randint(len(points), (size,), generator=generator)
        empty = count == 0
        centres[empty] = points[picks[empty]]
    return centres


def set_convolution(layer: torch.nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Give a weight-normalised 1x1 convolution the matrix `weight` `[out, in]`."""
    layer.weight_v.copy_(weight[..., None])
    layer.weight_g.copy_(weight.norm(dim=1)[:, None, None])
    layer.bias.copy_(bias)


def save_dac(model: "DAC", sizes: DacSizes, folder: Path) -> None:
    """Write config.json and model.safetensors, in half precision."""
    (folder / "config.json").write_text(json.dumps(asdict(sizes), indent=2) + "\n")
    state = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")


def load_dac_small(folder: str | Path = SHIPPED_DAC) -> "DAC":
    """The `dac.DAC` in a folder of this recipe (the shipped one), ready to use.

    Raises FileNotFoundError when it is not there.
    """
    folder = Path(folder)
    if not (folder / "model.safetensors").exists():
        raise FileNotFoundError(
            f"there is no model in {folder.name}: train one with "
            "`python -m speechlm_lab train dac-small`"
        )
    model = import_dac().DAC(**json.loads((folder / "config.json").read_text()))
    state = load_file(folder / "model.safetensors")
    model.load_state_dict({k: v.float() for k, v in state.items()})
    return model.eval()


@torch.no_grad()
def measure(
    codec: DescriptAdapter, pool: Pool, levels: tuple[int, ...] = (1, 2, 4, 8)
) -> dict:
    """Mel distance, STOI and codebook use on a pool's voices, by number of levels."""
    waves = [
        pool.speaker(i)[None, : 10 * SAMPLE_RATE] for i in range(len(pool.starts) - 1)
    ]
    codes = [codec.encode(wave) for wave in waves]
    metrics = {}
    for k in (k for k in levels if k <= codec.codebooks):
        mel, clear = [], []
        for wave, its_codes in zip(waves, codes, strict=True):
            decoded = codec.decode(its_codes, levels=k, length=wave.shape[1])
            mel.append((log_mel(wave, -80) - log_mel(decoded, -80)).abs().mean().item())
            clear.append(stoi(wave[0].numpy(), decoded[0].numpy(), SAMPLE_RATE))
        rate = codec.bitrate(k) / 1000
        metrics[f"mel distance, STOI at {rate:.2f} kbit/s, held-out voices"] = (
            f"{sum(mel) / len(mel):.2f} dB, {sum(clear) / len(clear):.3f}"
        )
    joined = torch.cat(codes, dim=2)[0]  # [K, frames of all voices]
    worth = []
    for row in joined:
        share = torch.bincount(row, minlength=codec.codebook_size) / len(row)
        worth.append(torch.special.entr(share).sum().exp().item())
    metrics[f"codebook perplexity by level, of {codec.codebook_size}"] = ", ".join(
        f"{value:.0f}" for value in worth
    )
    return metrics
