"""A finished codec's decoder, trained on; its codes stay what they are.

So whatever was trained on the codes goes on to fit. The shipped codec came to look
ahead by three frames instead of eighteen this way, in 4,000 steps of 8 clips on a CPU,
got better by 11,400 steps of 64 clips on a GPU, and learnt by the steps below, on two
cores, to hold its bands to a loudness (see `Decoder.render`).
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as nnf

from speechlm_lab import parallel
from speechlm_lab.codec import Codec, SpectralLoss
from speechlm_lab.codec.files import load_codec
from speechlm_lab.codec.voice import Voice, detuned
from speechlm_lab.recipes.batches import Batches
from speechlm_lab.recipes.card import write_checkpoint
from speechlm_lab.recipes.codec import CodecRecipe, measure
from speechlm_lab.recipes.pool import PoolConfig, make_pool
from speechlm_lab.train import TrainConfig, Training, seed_all, train


@dataclass(frozen=True)
class DecoderRecipe:
    """All that decides the outcome of a decoder's training."""

    name: str = "codec-decoder"
    codec: str | None = None  # folder of the codec to begin with; the shipped one
    causal: bool = True  # whether its blocks shall see no later frames
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=12_000,
            learning_rate=5e-4,
            warmup=200,
            decay=0.6,
            threads=1,
            processes=2,
            log_every=50,
        )
    )
    clips: CodecRecipe = field(  # what it is trained on
        default_factory=lambda: CodecRecipe(
            batch=16, pool=PoolConfig(minutes=240, speakers=1_200)
        )
    )

    def run(self, folder: Path, resume: bool = True) -> Training:
        """Train, measure and save; takes up what `folder` holds of this recipe."""
        folder.mkdir(parents=True, exist_ok=True)
        pool = parallel.once(lambda: make_pool(self.clips.pool, folder / "pool.npz", 2))
        real = self.clips.recordings()
        seed_all(self.train.seed)
        before = load_codec(self.codec)
        centred = self.causal and not before.config.causal
        model = with_causal_decoder(before) if centred else before
        model.requires_grad_(False)
        model.decoder.requires_grad_(True)
        device = parallel.device()
        spectral = SpectralLoss(model.sample_rate).to(device)
        unseen = self.clips.train.steps + self.clips.start_batches
        batches = Batches(
            lambda step: self.clips.sample_batch(pool, real, unseen + step),
            self.train.steps,
        )

        def loss(step: int) -> dict[str, Tensor]:
            wave, _ = batches(step)
            vectors, voice = heard(model, wave)
            controls = model.decoder.controls(vectors)
            off = detuned(controls.pitch, voice)
            decoded = model.decoder.render(controls, model.decoder.start(controls))
            mel = spectral(decoded, wave)
            total = mel + self.clips.tuning * off
            return {"loss": total, "mel": mel, "detuned": off}

        settings = {k: v for k, v in asdict(self).items() if k != "train"}
        training = train(model, loss, self.train, folder, settings, resume)
        if training.finished and parallel.rank() == 0:
            test = make_pool(self.clips.test, folder / "test.npz", 2)
            metrics = measure(model.cpu().eval(), test)
            data = "as for the recipe codec; encoder and codebooks as they were"
            write_checkpoint(
                model, self.name, str(self), data, metrics, training, folder
            )
        return training


@torch.no_grad()
def heard(model: Codec, wave: Tensor) -> tuple[Tensor, Voice]:
    """What the decoder is given of whole frames `[B, T]`, and the voice in them.

    Vectors `[B, F, D]` of some first levels of codes, as in the codec's training.
    """
    mel, voice = model.encoder.features(wave)
    codes = model.quantizer.encode(model.encoder(mel, voice))
    kept = model.quantizer.kept_levels(len(wave)).to(wave.device)
    vectors = 0
    for k, level in enumerate(model.quantizer.levels):
        vectors = vectors + level.decode(codes[:, k]) * (k < kept)[:, None, None]
    return vectors, voice


def with_causal_decoder(codec: Codec) -> Codec:
    """A copy whose decoder's blocks keep what they made of the frames up to now.

    What they made of later frames is left out, so it must be trained on.
    """
    state = {}
    for name, weights in codec.state_dict().items():
        if name.startswith("decoder.") and name.endswith("depthwise.weight"):
            later = weights.shape[-1] // 2  # kernels are centred; causal ones end now
            weights = nnf.pad(weights[..., : later + 1], (later, 0))
        state[name] = weights
    causal = Codec(replace(codec.config, causal=True))
    causal.load_state_dict(state)
    return causal
