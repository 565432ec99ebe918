"""The training of the shipped codec."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from pystoi import stoi
from torch import Tensor

from speechlm_lab.codec import Codec, CodecConfig, SpectralLoss
from speechlm_lab.corpus.tiny_voices import SAMPLE_RATE
from speechlm_lab.recipes.card import write_checkpoint
from speechlm_lab.recipes.pool import Pool, PoolConfig, make_pool
from speechlm_lab.spectral import log_mel
from speechlm_lab.train import TrainConfig, Training, seed_all, step_generator, train


@dataclass(frozen=True)
class CodecRecipe:
    """All that decides the outcome of a codec training."""

    codec: CodecConfig = field(default_factory=CodecConfig)
    train: TrainConfig = field(
        # its steps are too small to gain much from a second thread
        default_factory=lambda: TrainConfig(steps=4_000, learning_rate=2e-3, threads=1)
    )
    pool: PoolConfig = field(default_factory=PoolConfig)
    batch: int = 8  # clips a step
    clip: float = 0.8  # s, length of a clip
    quietest: float = -20.0  # dB; each clip's gain is drawn between this and 0
    noise: float = -60.0  # dBFS, most of the white noise that is added to a clip
    unquantized: int = 60  # steps before the quantizer comes in
    kmeans_batches: int = 20  # batches whose latents k-means starts from
    commitment: float = 0.25  # weight of the commitment loss
    test: PoolConfig = field(
        default_factory=lambda: PoolConfig("held-out", minutes=1.5, speakers=20)
    )  # voices to measure on

    def run(self, folder: Path, resume: bool = True) -> Training:
        """Train, measure and save; takes up what `folder` holds of this recipe."""
        folder.mkdir(parents=True, exist_ok=True)
        pool = make_pool(self.pool, folder / "pool.npz", self.train.threads)
        seed_all(self.train.seed)
        model = Codec(self.codec)
        spectral = SpectralLoss(self.codec.sample_rate)

        def loss(step: int) -> dict[str, Tensor]:
            # A codebook needs an encoder worth quantizing: one placed at step 0
            # collapses. So first train without, then start all levels by k-means.
            if step == self.unquantized:
                self._start_codebooks(model, pool)
            wave = self.sample_batch(pool, step)
            out = model(wave, quantize=step >= self.unquantized)
            mel = spectral(out.wave, wave)
            total = mel + self.commitment * out.commitment
            return {"loss": total, "mel": mel, "commitment": out.commitment}

        # the recipe as the checkpoint keeps it, less what `train` adds itself
        settings = {k: v for k, v in asdict(self).items() if k not in ("train", "test")}
        training = train(model, loss, self.train, folder, settings, resume)
        if training.finished:
            test = make_pool(self.test, folder / "test.npz", self.train.threads)
            metrics = measure(model.eval(), test)
            data = (
                f"TinyVoices, {self.pool.minutes:g} minutes, up to "
                f"{self.pool.speakers} voices, seed {self.pool.seed}"
            )
            write_checkpoint(model, "codec", str(self), data, metrics, training, folder)
            for name, value in metrics.items():
                print(f"{name}: {value}")
        return training

    def sample_batch(self, pool: Pool, step: int) -> Tensor:
        """Clips `[B, T]` of one step, each at its own loudness, with a little noise."""
        generator = step_generator(self.train.seed, step)
        length = int(self.clip * SAMPLE_RATE)
        at = torch.randint(len(pool.wave) - length, (self.batch,), generator=generator)
        wave = pool.clips(at, length)
        gain, noise = torch.rand(2, self.batch, 1, generator=generator)
        white = torch.randn(wave.shape, generator=generator)
        loud = wave * 10 ** (self.quietest * gain / 20)
        return loud + white * 10 ** (self.noise / 20) * noise

    @torch.no_grad()
    def _start_codebooks(self, model: Codec, pool: Pool) -> None:
        # batches from beyond the last step, so that they are not the first ones again
        steps = range(self.train.steps, self.train.steps + self.kmeans_batches)
        latents = [model.latents(self.sample_batch(pool, s)) for s in steps]
        generator = step_generator(self.train.seed, self.train.steps)
        model.quantizer.start(torch.cat(latents), generator)


@torch.no_grad()
def measure(codec: Codec, pool: Pool, levels: tuple[int, ...] = (1, 4, 8)) -> dict:
    """Mel distance, STOI and codebook use on a pool's voices, by number of levels."""
    waves = [
        pool.speaker(i)[None, : 10 * SAMPLE_RATE] for i in range(len(pool.starts) - 1)
    ]
    codes = [codec.encode(wave) for wave in waves]
    metrics = {}
    for k in (k for k in levels if k <= codec.config.codebooks):
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
    perplexities = [perplexity(row, codec.config.codebook_size) for row in joined]
    metrics[f"codebook perplexity by level, of {codec.config.codebook_size}"] = (
        ", ".join(f"{p:.0f}" for p in perplexities)
    )
    return metrics


def perplexity(codes: Tensor, size: int) -> float:
    """2 to the entropy in bits of how often each code occurs: codes really in use."""
    share = torch.bincount(codes.flatten(), minlength=size) / codes.numel()
    return torch.special.entr(share).sum().exp().item()
