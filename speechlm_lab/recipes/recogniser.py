"""The training of the shipped phone recogniser."""

from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as nnf
from torch.nn.utils.rnn import pad_sequence

from speechlm_lab.corpus.emotions import EMOTIONS
from speechlm_lab.corpus.english import pseudoword
from speechlm_lab.corpus.items import Item
from speechlm_lab.corpus.sentences import plain, test_sentences, vocabulary
from speechlm_lab.corpus.tiny_voices import SAMPLE_RATE, TinyVoices, speak
from speechlm_lab.recipes.card import write_checkpoint
from speechlm_lab.recogniser import (
    BLANK,
    PHONES,
    PhoneErrors,
    Recogniser,
    RecogniserConfig,
    fold,
    phone_errors,
)
from speechlm_lab.train import TrainConfig, Training, seed_all, step_generator, train

GROUP = 8  # batches made of one stock of requests, sorted by length


@dataclass(frozen=True)
class Degradation:
    """What happens to a clip, so that speech is learned and not one synthesiser.

    Each range is one to draw from, evenly; each share is that of clips concerned. None
    of this is a codec: the recogniser must not know what it is to judge.
    """

    noise: tuple[float, float] = (5.0, 45.0)  # dB, level of speech over coloured noise
    noisy: float = 0.6  # share
    tilt: float = 3.0  # dB an octave, up or down
    ripple: float = 4.0  # dB, of a smooth filter
    lowpass: tuple[float, float] = (3000.0, 8000.0)  # Hz
    narrow: float = 0.4  # share that goes through the low-pass
    echo: tuple[float, float] = (0.05, 0.4)  # s, reverberation time
    echoing: float = 0.25  # share
    jitter: float = 0.35  # largest deviation of noise on the features (1 is 15 dB)
    blur: float = 0.2  # share whose features are averaged over neighbours
    masks: int = 2  # stretches of time and of frequency set to 0 (SpecAugment)
    mask_bands: int = 12  # longest, bands
    mask_frames: int = 12  # longest, spectra


@dataclass(frozen=True)
class RecogniserRecipe:
    """All that decides the outcome of a recogniser training.

    Every step speaks sentences of its own. No audio is kept.
    """

    recogniser: RecogniserConfig = field(default_factory=RecogniserConfig)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=2_500, learning_rate=2e-3, warmup=60, decay=0.5, clip=5.0, threads=1
        )
    )
    batch: int = 12  # sentences a step
    speakers: int = 100_000  # different voices
    loose: float = 0.5  # share of texts that are unrelated words, not sentences
    invented: float = 0.5  # share of invented words among these
    sounds: float = 0.1  # share of items with a laugh, a cough, ...
    scenes: float = 0.1  # share of items with a background
    degradation: Degradation = field(default_factory=Degradation)
    clean: float = 0.2  # share of clips left as they are
    test: int = 60  # sentences of each kind to measure on

    def run(self, folder: Path, resume: bool = True) -> Training:
        """Train, measure and save; takes up what `folder` holds of this recipe."""
        folder.mkdir(parents=True, exist_ok=True)
        seed_all(self.train.seed)
        model = Recogniser(self.recogniser)

        def loss(step: int) -> dict[str, Tensor]:
            value = ctc_loss(model, *self.sample_batch(model, step))
            return {"loss": value}

        settings = {k: v for k, v in asdict(self).items() if k not in ("train", "test")}
        training = train(model, loss, self.train, folder, settings, resume)
        if training.finished:
            metrics = {
                f"phone error rate, {name}": f"{measure(model, items).rate:.1%}"
                for name, items in test_sets(self.test).items()
            }
            data = (
                f"TinyVoices, spoken anew for each of {self.train.steps:,} steps of "
                f"{self.batch} sentences, under noise, filters and echo; no codec's "
                "output"
            )
            write_checkpoint(
                model, "recogniser", str(self), data, metrics, training, folder
            )
            for name, value in metrics.items():
                print(f"{name}: {value}")
        return training

    def sample_batch(
        self, model: Recogniser, step: int
    ) -> tuple[Tensor, Tensor, list[list[str]]]:
        """Features `[B, bands, S]`, their frames `[B]` and the phones of one step."""
        requests = requests_of(self, step // GROUP)[step % GROUP]
        items = [speak(**request) for request in requests]
        generator = step_generator(self.train.seed, step)
        wave = pad_sequence([item.wave for item in items], batch_first=True)
        lengths = torch.tensor([len(item.wave) for item in items])
        d = self.degradation
        keep = torch.rand(len(items), 1, generator=generator) < self.clean
        wave = torch.where(keep, wave, degrade(wave, d, generator))
        features = model.features(wave, lengths)
        worse = degrade_features(features, d, generator)
        features = torch.where(keep[:, :, None], features, worse)
        return features, model.frames(lengths), [fold(i.phones) for i in items]


@lru_cache(maxsize=2)
def requests_of(recipe: RecogniserRecipe, group: int) -> list[list[dict]]:
    """Arguments of `speak` for GROUP batches; texts in a batch are of like length."""
    data = TinyVoices(
        "train", recipe.train.seed, 10**12, EMOTIONS, recipe.sounds, recipe.scenes,
        recipe.speakers,
    )  # fmt: skip
    rng = np.random.default_rng([recipe.train.seed, group])
    count = GROUP * recipe.batch
    requests = [data.request(group * count + i) for i in range(count)]
    for request in requests:
        if rng.random() < recipe.loose:
            request["text"] = loose_words(rng, recipe.invented)
    requests.sort(key=lambda request: len(request["text"]))
    batches = [requests[i : i + recipe.batch] for i in range(0, count, recipe.batch)]
    return [batches[i] for i in rng.permutation(GROUP)]


def loose_words(rng: np.random.Generator, invented: float) -> str:
    """One to seven unrelated words, so that none can be guessed from the others."""
    known = _vocabulary()
    picked = [
        pseudoword(rng) if rng.random() < invented else known[rng.integers(len(known))]
        for _ in range(rng.integers(1, 8))
    ]
    return " ".join(picked) + "."


@lru_cache(maxsize=1)
def _vocabulary() -> list[str]:
    return sorted(vocabulary())


def ctc_loss(
    model: Recogniser, features: Tensor, frames: Tensor, phones: list[list[str]]
) -> Tensor:
    """Connectionist temporal classification (Graves et al. 2006), a phone."""
    classes = [[PHONES.index(p) + 1 for p in row] for row in phones]
    return nnf.ctc_loss(
        model(features).transpose(0, 1),
        torch.tensor([c for row in classes for c in row]),
        frames,
        torch.tensor([len(row) for row in classes]),
        blank=BLANK,
        zero_infinity=True,
    )


# Degradations


def degrade(wave: Tensor, d: Degradation, generator: torch.Generator) -> Tensor:
    """Waves `[B, T]` through a filter and an echo, with coloured noise added."""
    batch, length = wave.shape

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, 1, generator=generator)

    def happens(share: float) -> Tensor:
        return torch.rand(batch, 1, generator=generator) < share

    size = next_fast_len(length + int(d.echo[1] * SAMPLE_RATE), real=True)
    hz = torch.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    octaves = (hz.clamp(min=60) / 1000).log2()
    # the filter: a tilt, a slow cosine over octaves, an edge of 12 dB a 100 Hz
    slow = torch.cos(draw(0.5, 3) * octaves + draw(0, 6.3))
    gain = draw(-d.tilt, d.tilt) * octaves + draw(0, d.ripple) * slow
    edge = (hz - draw(*d.lowpass)).clamp(min=0) * 0.12
    gain = gain - torch.where(happens(d.narrow), edge.clamp(max=60), 0.0)
    # the echo: noise that dies away by 60 dB, after the sound itself
    time = torch.arange(size - length) / SAMPLE_RATE
    tail = torch.randn(batch, len(time), generator=generator)
    tail = tail * 10 ** (-3 * time / draw(*d.echo))
    tail = tail / tail.norm(dim=1, keepdim=True) * draw(0.1, 0.8) * happens(d.echoing)
    tail[:, 0] = 1
    spectrum = torch.fft.rfft(wave, size) * torch.fft.rfft(tail, size)
    result = torch.fft.irfft(spectrum * 10 ** (gain / 20), size)[:, :length]
    # noise from white to falling by 6 dB an octave
    noise = torch.fft.rfft(torch.randn(batch, size, generator=generator))
    noise = torch.fft.irfft(noise * 10 ** (draw(-6, 0) * octaves / 20), size)
    noise = noise[:, :length]
    below = result.std(1, keepdim=True) / noise.std(1, keepdim=True)
    below = below * 10 ** (-draw(*d.noise) / 20) * happens(d.noisy)
    return result + below * noise


def degrade_features(
    features: Tensor, d: Degradation, generator: torch.Generator
) -> Tensor:
    """Features `[B, bands, S]` jittered, blurred and masked."""
    batch, bands, count = features.shape
    blurred = nnf.avg_pool2d(features[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    blur = torch.rand(batch, 1, 1, generator=generator) < d.blur
    deviation = d.jitter * torch.rand(batch, 1, 1, generator=generator)
    noise = torch.randn(features.shape, generator=generator)
    worse = torch.where(blur, blurred, features) + deviation * noise
    for size, longest, shape in (
        (bands, d.mask_bands, (1, -1, 1)),
        (count, d.mask_frames, (1, 1, -1)),
    ):
        place = torch.arange(size).view(shape)
        for _ in range(d.masks):
            width, begin = torch.rand(2, batch, 1, 1, generator=generator)
            begin = begin * size
            inside = (place >= begin) & (place < begin + width * longest)
            worse = worse.masked_fill(inside, 0.0)
    return worse


# Measuring


def test_sets(count: int) -> dict[str, list[Item]]:
    """Items of held-out voices: test sentences by emotion, and words never listed."""
    texts = test_sentences()
    rng = np.random.default_rng(0)
    words = {word for text in texts for word in plain(text).split()}
    unseen = sorted(words - vocabulary())
    sets = {
        f"unseen sentences, {emotion}": [
            speak(texts[i % len(texts)], f"held-out:{i}", emotion, seed=i)
            for i in range(count)
        ]
        for emotion in EMOTIONS
    }
    sets["unseen words in a row, neutral"] = [
        speak(" ".join(rng.choice(unseen, 5)) + ".", f"held-out:{i}", seed=i)
        for i in range(count)
    ]
    sets["invented words, neutral"] = [
        speak(" ".join(pseudoword(rng) for _ in range(4)) + ".", f"held-out:{i}")
        for i in range(count)
    ]
    return sets


test_sets.__test__ = False  # not a test, whatever pytest thinks of its name


def measure(model: Recogniser, items: list[Item]) -> PhoneErrors:
    """Errors of the recogniser on items that carry their phones."""
    pairs = ((fold(item.phones), model.phones(item.wave)) for item in items)
    return sum((phone_errors(*pair) for pair in pairs), PhoneErrors())
