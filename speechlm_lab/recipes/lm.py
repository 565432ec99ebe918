"""The training of the shipped language model."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechlm_lab import parallel
from speechlm_lab.codec import SHIPPED, Codec
from speechlm_lab.codec.files import load_codec
from speechlm_lab.lm import LanguageModel, LMConfig
from speechlm_lab.recipes.card import write_checkpoint
from speechlm_lab.recipes.pool import (
    PoolConfig,
    make_pool,
    read_arrays,
    write_arrays,
)
from speechlm_lab.train import (
    TrainConfig,
    TrainError,
    Training,
    seed_all,
    step_generator,
    train,
)


@dataclass(frozen=True)
class LMRecipe:
    """All that decides the outcome of a language model training."""

    codec: str | None = None  # folder of the codec whose codes are learnt; shipped
    lm: LMConfig = field(default_factory=LMConfig)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=1_800,
            learning_rate=1.5e-3,
            betas=(0.9, 0.98),
            weight_decay=0.05,
            threads=1,
        )
    )
    pool: PoolConfig = field(
        default_factory=lambda: PoolConfig(
            minutes=240, speakers=200, emotions=("neutral",), sounds=0, scenes=0
        )
    )
    batch: int = 8  # stretches a step
    frames: int = 256  # frames in a stretch, all of one speaker
    mask: float = 0.1  # share of input steps that are blanked out
    weights: tuple[float, ...] = (3.0, 1.5, 1.0, 0.7)  # of the levels' losses
    test: PoolConfig = field(
        default_factory=lambda: PoolConfig(
            "held-out",
            minutes=3,
            speakers=10,
            emotions=("neutral",),
            sounds=0,
            scenes=0,
        )
    )  # voices to measure on

    def __post_init__(self) -> None:
        if len(self.weights) != self.lm.codebooks:
            raise ValueError(
                f"{self.lm.codebooks} codebooks want as many loss weights, got "
                f"{len(self.weights)}"
            )

    def run(self, folder: Path, resume: bool = True) -> Training:
        """Train, measure and save; takes up what `folder` holds of this recipe."""
        folder.mkdir(parents=True, exist_ok=True)
        streams = parallel.once(lambda: self._codes(self.pool, folder, "pool"))
        seed_all(self.train.seed)
        model = LanguageModel(self.lm)
        device = parallel.device()
        weights = torch.tensor(self.weights, device=device) / sum(self.weights)

        def loss(step: int) -> dict[str, Tensor]:
            generator = step_generator(self.train.seed, step)
            batch = parallel.part(self.batch)
            codes = sample_codes(streams, batch, self.frames, generator)
            codes = codes.to(device)
            by_level = model.loss(codes, self.mask)
            total = (weights * by_level).sum()
            return {"loss": total, **_by_level(by_level)}

        # the recipe as the checkpoint keeps it, less what `train` adds itself
        settings = {k: v for k, v in asdict(self).items() if k not in ("train", "test")}
        settings["codec"] = _fingerprint(self.codec)
        training = train(model, loss, self.train, folder, settings, resume)
        if training.finished and parallel.rank() == 0:
            model.cpu()
            metrics = measure(model.eval(), self._codes(self.test, folder, "test"))
            data = (
                f"TinyVoices, {self.pool.minutes:g} minutes, up to "
                f"{self.pool.speakers} voices, seed {self.pool.seed}, as codes of the "
                f"codec whose weights have SHA-256 {settings['codec'][:12]}"
            )
            write_checkpoint(model, "lm", str(self), data, metrics, training, folder)
            for name, value in metrics.items():
                print(f"{name}: {value}")
        return training

    def _codes(self, pool: PoolConfig, folder: Path, name: str) -> list[Tensor]:
        """Each speaker's codes `[K, F]`, int16, of a pool; made once, then kept."""
        key = json.dumps([_fingerprint(self.codec), self.lm.codebooks, asdict(pool)])
        path = folder / f"{name}_codes.npz"
        kept = read_arrays(path, key)
        if kept is None:
            torch.set_num_threads(self.train.threads)
            audio = make_pool(pool, folder / f"{name}.npz", self.train.threads)
            print("encoding ...", flush=True)
            codec = load_codec(self.codec)
            streams = [
                encode_stream(codec, audio.speaker(i), self.lm.codebooks)
                for i in range(len(audio.starts) - 1)
            ]
            ends = np.cumsum([s.shape[1] for s in streams])
            kept = {"codes": torch.cat(streams, dim=1).numpy(), "ends": ends}
            write_arrays(path, key, **kept)
        pieces = np.split(kept["codes"], kept["ends"][:-1], axis=1)
        return [torch.from_numpy(np.ascontiguousarray(piece)) for piece in pieces]


def _fingerprint(codec: str | None) -> str:
    """SHA-256 of a codec's weights, as hexadecimal digits."""
    weights = Path(codec or SHIPPED) / "model.safetensors"
    if not weights.exists():
        raise TrainError(
            "the language model learns the codes of a codec, and there is none in "
            f"{weights.parent}: run `python -m speechlm_lab train codec` first, then "
            "name its folder with --codec"
        )
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def encode_stream(codec: Codec, wave: Tensor, levels: int) -> Tensor:
    """First `levels` codes `[levels, F]`, int16, of a long `wave` `[T]`."""
    # in pieces of a minute, which bounds the memory
    pieces = wave.split(60 * codec.sample_rate // codec.hop * codec.hop)
    codes = [codec.encode(piece[None], levels)[0] for piece in pieces]
    return torch.cat(codes, dim=1).short()


def sample_codes(
    streams: list[Tensor], batch: int, frames: int, generator: torch.Generator
) -> Tensor:
    """Stretches `[B, K, frames]`, int64, each from a random place of one stream."""
    room = torch.tensor([max(0, s.shape[1] - frames + 1) for s in streams])
    if not room.any():
        raise TrainError(
            f"no speaker says {frames} frames: speak more minutes or use fewer speakers"
        )
    # a place on the streams' joined room, so that all places are equally likely
    ends = room.cumsum(0)
    at = torch.randint(int(ends[-1]), (batch,), generator=generator)
    speaker = torch.searchsorted(ends, at, right=True)
    start = at - (ends - room)[speaker]
    rows = [
        streams[s][:, f : f + frames]
        for s, f in zip(speaker.tolist(), start.tolist(), strict=True)
    ]
    return torch.stack(rows).long()


def _by_level(losses: Tensor) -> dict[str, Tensor]:
    return {f"level_{k}": value for k, value in enumerate(losses)}


@torch.no_grad()
def measure(model: LanguageModel, streams: list[Tensor], frames: int = 256) -> dict:
    """Cross-entropy of each level on the streams' codes, in nats."""
    stretches = [s[:, :n] for s in streams for n in [min(frames, s.shape[1])]]
    losses = torch.stack([model.loss(s[None].long()) for s in stretches]).mean(0)
    values = ", ".join(f"{value:.3f}" for value in losses.tolist())
    uniform = torch.tensor(float(model.config.codebook_size)).log().item()
    return {f"nats a code by level, held-out voices (chance: {uniform:.2f})": values}
