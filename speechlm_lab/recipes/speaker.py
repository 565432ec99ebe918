"""The training of the shipped speaker encoder."""

import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from speechlm_lab import parallel
from speechlm_lab.codec import load_shipped
from speechlm_lab.corpus.emotions import EMOTIONS
from speechlm_lab.corpus.sentences import test_sentences
from speechlm_lab.corpus.tiny_voices import SAMPLE_RATE, TinyVoices, speak
from speechlm_lab.recipes.card import write_checkpoint
from speechlm_lab.recipes.recogniser import (
    Degradation,
    degrade,
    degrade_features,
    loose_words,
)
from speechlm_lab.speaker import SpeakerConfig, SpeakerEncoder, similarity
from speechlm_lab.train import TrainConfig, Training, seed_all, step_generator, train

FIRST = 1_000  # held-out voice; those below it had a part in choosing this recipe


@dataclass(frozen=True)
class SpeakerRecipe:
    """All that decides the outcome of a speaker encoder's training.

    Every step speaks sentences of its own. No audio is kept.
    """

    speaker: SpeakerConfig = field(default_factory=SpeakerConfig)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=2_400, learning_rate=2e-3, warmup=60, decay=0.5, clip=5.0, threads=1
        )
    )
    batch: int = 48  # voices a step, two clips of each, in any two moods
    clip: tuple[float, float] = (1.5, 2.8)  # s, of all clips of a step, from, to
    speakers: int = 100_000  # different voices
    scale: float = 16.0  # of the cosines before the softmax
    margin: float = 0.15  # radians added to the angle to the right voice
    easy: float = 0.45  # share of the steps over which the margin grows from 0
    loose: float = 0.3  # share of texts that are unrelated words, not sentences
    sounds: float = 0.1  # share of items with a laugh, a cough, ...
    scenes: float = 0.1  # share of items with a background
    # milder than for phones: a filter can turn one voice into another
    degradation: Degradation = Degradation(
        noise=(12.0, 45.0), tilt=1.0, ripple=1.5, lowpass=(4000.0, 8000.0), narrow=0.2,
        echoing=0.15, jitter=0.2, masks=1,
    )  # fmt: skip
    clean: float = 0.3  # share of clips left as they are
    test: int = 100  # held-out voices to measure on
    levels: int = 6  # of our codec, in the measure of robustness

    def run(self, folder: Path, resume: bool = True) -> Training:
        """Train, measure and save; takes up what `folder` holds of this recipe."""
        folder.mkdir(parents=True, exist_ok=True)
        seed_all(self.train.seed)
        model = SpeakerEncoder(self.speaker)

        def loss(step: int) -> dict[str, Tensor]:
            features, _ = self.sample_batch(model, step)
            one, other = model(features.to(parallel.device())).chunk(2)
            cosines = one @ other.T
            own = torch.arange(len(cosines), device=cosines.device)
            grown = min(1.0, step / max(1.0, self.easy * self.train.steps))
            ways = [
                margin_loss(c, own, grown * self.margin, self.scale)
                for c in (cosines, cosines.T)
            ]
            right = (cosines.argmax(1) == own).float().mean()
            return {"loss": sum(ways) / 2, "right": right}

        settings = {
            k: v
            for k, v in asdict(self).items()
            if k not in ("train", "test", "levels")
        }
        training = train(model, loss, self.train, folder, settings, resume)
        if training.finished:
            encoder = model.cpu().half().float()  # as it will be loaded
            metrics = measure(encoder, self.test, self.levels)
            data = (
                "TinyVoices in all emotions, spoken anew for each of "
                f"{self.train.steps:,} steps of {2 * self.batch} clips, two each of "
                f"{self.batch} voices out of {self.speakers:,}, under noise, filters "
                "and echo; no codec's output"
            )
            write_checkpoint(
                copy.deepcopy(encoder).half(), "speaker", str(self), data, metrics,
                training, folder,
            )  # fmt: skip
            for name, value in metrics.items():
                print(f"{name}: {value}")
        return training

    def sample_batch(self, model: SpeakerEncoder, step: int) -> tuple[Tensor, Tensor]:
        """Features `[2 B, bands, S]` of one step's clips, and their speakers `[2 B]`.

        Clip B + i is of the same voice as clip i.
        """
        data = TinyVoices(
            "train", self.train.seed, 10**12, EMOTIONS, self.sounds, self.scenes,
        )  # fmt: skip
        rng = np.random.default_rng([self.train.seed, step])
        length = round(rng.uniform(*self.clip) * SAMPLE_RATE)
        speakers = np.tile(rng.choice(self.speakers, self.batch, replace=False), 2)
        clips = []
        for i, speaker in enumerate(speakers):
            request = data.request(step * len(speakers) + i) | {"speaker": int(speaker)}
            if rng.random() < self.loose:
                request["text"] = loose_words(rng, 0.5)
            wave = speak(**request).wave
            begin = rng.integers(max(1, len(wave) - length + 1))
            wave = wave[begin : begin + length]
            # what is too short is said again
            clips.append(wave.repeat(-(-length // len(wave)))[:length])
        generator = step_generator(self.train.seed, step)
        wave, d = torch.stack(clips), self.degradation
        keep = torch.rand(len(wave), 1, generator=generator) < self.clean
        wave = torch.where(keep, wave, degrade(wave, d, generator))
        features = model.features(wave)
        worse = degrade_features(features, d, generator)
        features = torch.where(keep[:, :, None], features, worse)
        return features, torch.from_numpy(speakers)


def margin_loss(cosines: Tensor, right: Tensor, margin: float, scale: float) -> Tensor:
    """Softmax over voices in which the right angle counts as `margin` wider than it is.

    So embeddings of one voice are drawn closer together than telling the voices apart
    would need (ArcFace, Deng et al. 2019, arXiv 1801.07698, equation 3). Here each
    voice stands for itself by the other clip of it, not by a direction that is learned:
    so there is no end of voices, and none has to be met often.

    Args:
        cosines: [B, voices].
        right: [B], the right ones.
        margin: radians.
        scale: of the cosines before the softmax.
    """
    angle = cosines.gather(1, right[:, None]).clamp(-1 + 1e-6, 1 - 1e-6).acos()
    wider = (angle + margin).clamp(max=torch.pi).cos()
    return nnf.cross_entropy(scale * cosines.scatter(1, right[:, None], wider), right)


# Measuring


def test_clips(voices: int, emotion: str, seed: int, seconds: float = 3.0) -> Tensor:
    """Clips `[voices, T]` of held-out voices from FIRST on, saying unseen sentences.

    Another seed gives other sentences, said in another way.
    """
    texts, length = test_sentences(), round(seconds * SAMPLE_RATE)
    rows = []
    for voice in range(voices):
        rng = np.random.default_rng([seed, voice])
        wave = torch.zeros(0)
        while len(wave) < length:
            text, take = texts[rng.integers(len(texts))], int(rng.integers(2**31))
            said = speak(text, f"held-out:{FIRST + voice}", emotion, take).wave
            wave = torch.cat([wave, said])
        rows.append(wave[:length])
    return torch.stack(rows)


test_clips.__test__ = False  # not a test, whatever pytest thinks of its name


def equal_error_rate(same: Tensor, different: Tensor) -> float:
    """The rate at which as many of one voice are refused as of two voices accepted.

    Args:
        same: similarities of pairs of one voice, of any shape.
        different: similarities of pairs of two voices.

    Returns:
        0 (told apart) to 0.5 (no better than chance) or beyond: at the threshold where
        the two rates are nearest, their mean.
    """
    same, different = same.flatten().sort().values, different.flatten().sort().values
    threshold = torch.cat([same, different]).sort().values
    refused = torch.searchsorted(same, threshold) / len(same)
    accepted = 1 - torch.searchsorted(different, threshold) / len(different)
    at = (refused - accepted).abs().argmin()
    return float((refused[at] + accepted[at]) / 2)


def closest_rate(scores: Tensor, group: int = 20) -> float:
    """Share of clips that are closest to their own voice among `group` voices.

    Args:
        scores: [N, N], similarity of clip i to a recording of voice j; i speaks itself
            in column i. Voices are taken in groups of `group`, in order; what is left
            over makes a smaller one.
    """
    hits = [
        scores[i : i + group, i : i + group].argmax(1)
        == torch.arange(len(scores[i : i + group]))
        for i in range(0, len(scores), group)
    ]
    return float(torch.cat(hits).float().mean())


def measure(encoder: SpeakerEncoder, voices: int, levels: int) -> dict[str, str]:
    """The figures of the card: how well held-out voices are told apart.

    Each clip lasts 3 s and is compared with another recording of 3 s of each voice,
    neutral; also when it went through our codec, whose output was never trained on.
    """
    codec = load_shipped()
    recorded = encoder.embed(test_clips(voices, "neutral", 0))
    scores: dict[str, list[Tensor]] = {}
    for number, emotion in enumerate(EMOTIONS):
        clips = test_clips(voices, emotion, 1 + number)
        kind = "neutral" if emotion == "neutral" else "other emotions"
        for name, heard in (
            (kind, clips),
            (f"{kind}, through the codec", through(codec, clips, levels)),
        ):
            found = encoder.embed(heard)
            score = similarity(found[:, None], recorded[None])
            scores.setdefault(name, []).append(score)
            if kind != "neutral" and "codec" not in name:
                scores[emotion] = [score]
    own = torch.eye(voices, dtype=torch.bool)
    metrics = {}
    for name, several in scores.items():
        stack = torch.stack(several)
        closest = np.mean([closest_rate(score) for score in several])
        metrics[f"closest of 20 held-out voices, {name}"] = f"{closest:.1%}"
        error = equal_error_rate(stack[:, own], stack[:, ~own])
        metrics[f"equal error rate, held-out voices, {name}"] = f"{error:.1%}"
    for name in ("neutral", "other emotions", "neutral, through the codec"):
        stack = torch.stack(scores[name])
        metrics[f"mean similarity, {name}"] = (
            f"{stack[:, own].mean():.2f} to the own voice, "
            f"{stack[:, ~own].mean():.2f} to others"
        )
    return metrics


@torch.no_grad()
def through(codec: nn.Module, clips: Tensor, levels: int) -> Tensor:
    """Clips `[B, T]` after a codec, with so many of its levels."""
    decoded = []
    for few in clips.split(20):
        wave = codec.decode(codec.encode(few)[:, :levels])[:, : clips.shape[1]]
        decoded.append(wave.clamp(-1, 1))
    return torch.cat(decoded)
