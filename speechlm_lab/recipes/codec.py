"""The trainings of our codec: the shipped one, and one for an evening."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as nnf

from speechlm_lab import parallel
from speechlm_lab.codec import (
    Codec,
    CodecConfig,
    SpectralLoss,
    StridedCodec,
    StridedConfig,
)
from speechlm_lab.corpus.download import DownloadError
from speechlm_lab.corpus.tiny_voices import SAMPLE_RATE
from speechlm_lab.metrics import codebook_use, stoi
from speechlm_lab.recipes.batches import Batches
from speechlm_lab.recipes.card import write_checkpoint
from speechlm_lab.recipes.pool import Pool, PoolConfig, make_pool, real_speech
from speechlm_lab.recipes.refit import Refit, refit, told
from speechlm_lab.spectral import log_mel
from speechlm_lab.train import TrainConfig, Training, seed_all, step_generator, train


class Clips(NamedTuple):
    """What a codec is trained on in one step."""

    wave: Tensor  # [B, T]
    phones: Tensor  # int64 [n, F], of the first n clips, those of TinyVoices


@dataclass(frozen=True)
class CodecRecipe:
    """All that decides the outcome of a codec training."""

    name: str = "codec"
    # of our codec, or of the strided one
    codec: CodecConfig | StridedConfig = field(
        default_factory=lambda: CodecConfig(semantic=16)
    )
    train: TrainConfig = field(
        # its steps are too small to gain much from a second thread
        default_factory=lambda: TrainConfig(steps=13_000, threads=1)
    )
    pool: PoolConfig = field(default_factory=PoolConfig)
    real: float = 0.5  # share of clips from recordings, where they can be had
    batch: int = 8  # clips a step
    clip: float = 0.8  # s, length of a clip
    quietest: float = -20.0  # dB; each clip's gain is drawn between this and 0
    noise: float = -60.0  # dBFS, most of the white noise that is added to a clip
    unquantized: int = 0  # steps before the codec is started and the quantizer comes
    start_batches: int = 120  # batches from which the codec's parts are placed
    commitment: float = 0.02  # weight of the quantizer's loss
    tuning: float = 0.5  # weight of the pitch, in octaves
    phones: float = 0.1  # weight of the semantic level's cross-entropy
    # of the codebooks, after the training; None: they stay as they were trained
    refit: Refit | None = field(default_factory=Refit)
    test: PoolConfig = field(  # voices to measure on: some 47 codes an entry
        default_factory=lambda: PoolConfig("held-out", minutes=8, speakers=40)
    )

    def run(self, folder: Path, resume: bool = True) -> Training:
        """Train, measure and save; takes up what `folder` holds of this recipe."""
        folder.mkdir(parents=True, exist_ok=True)
        pool = parallel.once(lambda: make_pool(self.pool, folder / "pool.npz", 2))
        real = self.recordings()
        seed_all(self.train.seed)
        ours = isinstance(self.codec, CodecConfig)
        model = Codec(self.codec) if ours else StridedCodec(self.codec)
        device = parallel.device()
        spectral = SpectralLoss(self.codec.sample_rate).to(device)

        batches = Batches(
            lambda step: self.sample_batch(pool, real, step), self.train.steps
        )

        def loss(step: int) -> dict[str, Tensor]:
            if step == self.unquantized:
                self._start(model, pool, real)
            wave, phones = batches(step)
            out = model(wave, quantize=step >= self.unquantized)
            mel = spectral(out.wave, wave)
            values = {"mel": mel, "commitment": out.commitment}
            total = mel + self.commitment * out.commitment
            if out.detuned is not None:
                values["detuned"] = out.detuned
                total = total + self.tuning * out.detuned
            if out.phones is not None:  # known for synthetic voices only
                spoken = out.phones[: len(phones)].flatten(0, 1)
                values["phones"] = nnf.cross_entropy(spoken, phones.flatten())
                total = total + self.phones * values["phones"]
            return {"loss": total, **values}

        # the recipe as the checkpoint keeps it, less what `train` adds itself and what
        # comes after it
        settings = asdict(self)
        for later in ("train", "refit", "test"):
            del settings[later]
        settings["real"] = self.real if real else 0.0
        training = train(model, loss, self.train, folder, settings, resume)
        if training.finished and parallel.rank() == 0:
            model.cpu()
            test = make_pool(self.test, folder / "test.npz", 2)
            metrics = self._fit_again(model.eval(), pool, real)
            metrics |= measure(model, test)
            data = (
                f"TinyVoices, {self.pool.minutes:g} minutes, up to "
                f"{self.pool.speakers} voices, seed {self.pool.seed}; "
                + (
                    f"{self.real:.0%} of the clips from the train splits of Barista "
                    "(Apache 2.0) and of FSDD (CC BY-SA 4.0), at three speeds"
                    if real
                    else "no recordings"
                )
            )
            write_checkpoint(
                model, self.name, str(self), data, metrics, training, folder
            )
            for name, value in metrics.items():
                print(f"{name}: {value}")
        return training

    def _fit_again(
        self, model: Codec | StridedCodec, pool: Pool, real: list[np.ndarray]
    ) -> dict[str, str]:
        if self.refit is None:
            return {}
        print("fitting the codebooks again, for even use ...", flush=True)
        unseen = self.train.steps + self.start_batches
        refit(
            model, self.refit, pool, real,
            lambda step: self.sample_batch(pool, real, step)[0],
            self.train.seed, unseen,
        )  # fmt: skip
        return {"codebooks": told(self.refit)}

    def recordings(self) -> list[np.ndarray]:
        """Streams of real speech, int16; none where they are not wanted or not had."""
        if not self.real:
            return []
        try:
            return real_speech()
        except DownloadError as error:
            print(f"trained without real speech: {error}", flush=True)
            return []

    def sample_batch(self, pool: Pool, real: list[np.ndarray], step: int) -> Clips:
        """The clips of one step, each at its own loudness, with a little noise.

        First those of `pool`, then those of `real`: three from the first of its streams
        for each one from the second, counted over all steps and processes.
        """
        generator = step_generator(self.train.seed, step)
        length = int(self.clip * SAMPLE_RATE)
        batch = parallel.part(self.batch)
        # this process's part of all recordings of the step; one clip always has phones
        total = round(self.batch * self.real) if real else 0
        first, end = (total * (parallel.rank() + i) // parallel.count() for i in (0, 1))
        count = min(end - first, batch - 1)
        at = torch.randint(
            len(pool.wave) - length, (batch - count,), generator=generator
        )
        frames = -(-length // self.codec.hop)
        phones = pool.phones(at, frames, self.codec.hop)
        rows = [pool.clips(at, length)]
        for number in range(step * total + first, step * total + first + count):
            stream = real[number % 4 == 3]
            begin = int(torch.randint(len(stream) - length, (1,), generator=generator))
            row = torch.from_numpy(stream[begin : begin + length]).float()
            rows.append(row[None] / 32768)
        wave = torch.cat(rows)
        gain, noise = torch.rand(2, batch, 1, generator=generator)
        white = torch.randn(wave.shape, generator=generator)
        loud = wave * 10 ** (self.quietest * gain / 20)
        return Clips(loud + white * 10 ** (self.noise / 20) * noise, phones)

    def _start(
        self, model: Codec | StridedCodec, pool: Pool, real: list[np.ndarray]
    ) -> None:
        # batches from beyond the last step, so that they are not the first ones again
        count = self.start_batches * parallel.count()
        steps = range(self.train.steps, self.train.steps + count)
        clips = [self.sample_batch(pool, real, step)[0] for step in steps]
        generator = step_generator(self.train.seed, self.train.steps)
        model.start(torch.cat(clips).to(parallel.device()), generator)
        parallel.share(model)  # each has started from clips of its own


def codec_laptop() -> CodecRecipe:
    """The same in about ten minutes on two cores, data and all."""
    return CodecRecipe(
        name="codec-laptop",
        train=TrainConfig(steps=2_800, threads=1, processes=2),
        pool=PoolConfig(minutes=60),
        real=0.25,  # in so few steps as good for recordings, and better for phones
        start_batches=60,
        refit=Refit(minutes=10, passes=3),
    )


def codec_strided() -> CodecRecipe:
    """The strided codec, as long as `codec-laptop`, for comparison.

    Its learning rate, warm-up and commitment are those that did best in short runs.
    """
    return CodecRecipe(
        name="codec-strided",
        codec=StridedConfig(codebooks=13),
        train=TrainConfig(steps=1_900, threads=1),
        pool=PoolConfig(minutes=60),
        real=0.25,
        unquantized=150,
        start_batches=60,
        commitment=0.25,
        refit=None,
    )


@torch.no_grad()
def measure(
    codec: Codec | StridedCodec, pool: Pool, levels: tuple[int, ...] = (1, 2, 4, 7, 13)
):
    """Mel distance and STOI on a pool's voices, by number of levels; codebook use.

    The use is that of all codes, the others are of each speaker's first 5 s.
    """
    voices = [pool.speaker(i)[None] for i in range(len(pool.starts) - 1)]
    codes = [codec.encode(wave) for wave in voices]
    waves = [wave[:, : 5 * SAMPLE_RATE] for wave in voices]
    metrics = {}
    for k in (k for k in levels if k <= codec.config.codebooks):
        mel, clear = [], []
        for wave, its_codes in zip(waves, codes, strict=True):
            frames = -(-wave.shape[1] // codec.hop)
            begun = its_codes[..., :frames]
            decoded = codec.decode(begun, levels=k, length=wave.shape[1])
            mel.append((log_mel(wave, -80) - log_mel(decoded, -80)).abs().mean().item())
            clear.append(stoi(decoded[0], wave[0]))
        rate = codec.bitrate(k) / 1000
        metrics[f"mel distance, STOI at {rate:.2f} kbit/s, held-out voices"] = (
            f"{sum(mel) / len(mel):.2f} dB, {sum(clear) / len(clear):.3f}"
        )
    use = codebook_use(torch.cat(codes, dim=2), codec.config.codebook_size)
    metrics[f"codebook perplexity by level, of {codec.config.codebook_size}"] = (
        ", ".join(f"{p:.0f}" for p in use.perplexity)
    )
    return metrics
