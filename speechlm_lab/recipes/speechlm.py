"""The training of the shipped speech language model: text to speech in any voice.

It wants a GPU, on which it took nine minutes; `speechlm_laptop` does without one.
"""

import json
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as nnf

from speechlm_lab import layout, parallel
from speechlm_lab.codec.files import load_codec
from speechlm_lab.corpus.sentences import test_sentences
from speechlm_lab.corpus.tiny_voices import speak
from speechlm_lab.layout import Steps
from speechlm_lab.lm import LanguageModel, LMConfig
from speechlm_lab.recipes.batches import Batches
from speechlm_lab.recipes.card import write_checkpoint
from speechlm_lab.recipes.codec import CodecRecipe, codec_laptop
from speechlm_lab.recipes.lm import _fingerprint
from speechlm_lab.recipes.utterances import (
    Choice,
    UtteranceConfig,
    make_utterances,
    sample_steps,
)
from speechlm_lab.recogniser import PhoneErrors, fold, load_recogniser, phone_errors
from speechlm_lab.speaking import SpeakConfig
from speechlm_lab.speechlm import SPEAKING, SpeechLM
from speechlm_lab.train import (
    TrainConfig,
    Training,
    seed_all,
    step_generator,
    train,
)


@dataclass(frozen=True)
class SpeechLMRecipe:
    """All that decides the outcome of a speech language model's training."""

    name: str = "speechlm"
    codec_recipe: CodecRecipe | None = None  # of a codec that is trained before
    codec: str | None = None  # folder of the codec whose codes are learnt; shipped
    lm: LMConfig = field(
        default_factory=lambda: LMConfig(
            codebooks=8,
            width=256,
            layers=5,
            heads=4,
            hidden=680,
            texts=layout.TEXTS,
            roles=layout.ROLES,
        )
    )
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=11_900,
            learning_rate=2.5e-3,
            warmup=300,
            betas=(0.9, 0.98),
            weight_decay=0.05,
            threads=1,
            processes=2,
            log_every=50,
        )
    )
    data: UtteranceConfig = field(default_factory=UtteranceConfig)
    batch: int = 128  # utterances a step
    choice: Choice = field(default_factory=Choice)
    mask: float = 0.8  # most of a sequence's speech steps whose codes are blanked out
    weights: tuple[float, ...] = (3.0, 2.0, 1.5, 1.0, 0.8, 0.6, 0.5, 0.4)  # of losses
    text_weight: float = 1.0  # of the text stream's loss
    speak: SpeakConfig = field(default_factory=SpeakConfig)  # how it then speaks
    checks: int = 0  # times that phone errors are measured along the way, and printed

    def __post_init__(self) -> None:
        if len(self.weights) != self.lm.codebooks:
            raise ValueError(
                f"{self.lm.codebooks} codebooks want as many loss weights, got "
                f"{len(self.weights)}"
            )

    def run(self, folder: Path, resume: bool = True) -> Training:
        """Train, measure and save; takes up what `folder` holds of this recipe."""
        folder.mkdir(parents=True, exist_ok=True)
        source, began = self.codec, time.perf_counter()
        if self.codec_recipe is not None:
            source = str(folder / "codec")
            before = self.codec_recipe.run(folder / "codec", resume)
            if not before.finished:
                return before
            parallel.wait()  # until rank 0 has written it
        torch.set_num_threads(self.train.threads)
        codec = load_codec(source)
        fingerprint = _fingerprint(source)
        path = folder / "utterances.npz"
        data = parallel.once(
            lambda: make_utterances(
                self.data, codec, self.lm.codebooks, path, fingerprint
            )
        )
        seed_all(self.train.seed)
        model = LanguageModel(self.lm)
        device = parallel.device()
        weights = torch.tensor([*self.weights, self.text_weight], device=device)
        weights /= weights.sum()

        def make(step: int) -> Steps:
            return sample_steps(
                data,
                max(self.batch, parallel.count()),
                self.lm.blank,
                self.choice,
                step_generator(self.train.seed, step, shared=True),
                (parallel.rank(), parallel.count()),
            )

        batches = Batches(make, self.train.steps)

        def loss(step: int) -> dict[str, Tensor]:
            due = step and step % (self.train.steps // (self.checks + 1)) == 0
            if due and parallel.rank() == 0:
                check(step)
            losses = steps_loss(model, batches(step), self.mask)
            names = [f"level_{k}" for k in range(len(losses) - 1)] + ["text"]
            total = (weights * losses).sum()
            return {"loss": total, **dict(zip(names, losses, strict=True))}

        def check(step: int) -> None:
            with torch.random.fork_rng():  # the training goes on as if without it
                copy = deepcopy(model).cpu()
                rate = spoken_errors(SpeechLM(codec, copy, self.speak), 20).rate
            minutes = (time.perf_counter() - began) / 60
            print(
                f"{minutes:.1f} minutes, {step:,} steps: phone error rate {rate:.1%}",
                flush=True,
            )

        # the recipe as the checkpoint keeps it, less what `train` adds itself and what
        # comes after it
        settings = asdict(self)
        for later in ("train", "speak"):
            del settings[later]
        settings["codec"] = fingerprint
        training = train(model, loss, self.train, folder, settings, resume)
        if training.finished and parallel.rank() == 0:
            metrics = measure(SpeechLM(codec, model.cpu(), self.speak))
            said = json.dumps(asdict(self.speak), indent=1)
            (folder / SPEAKING).write_text(said + "\n", encoding="utf-8")
            described = (
                f"TinyVoices, {len(data.speakers):,} utterances of "
                f"{self.data.speakers:,} voices, as codes of the codec whose weights "
                f"have SHA-256 {fingerprint[:12]}"
            )
            write_checkpoint(
                model.half(),
                self.name,
                str(self),
                described,
                metrics,
                training,
                folder,
            )
        return training


def speechlm_laptop() -> SpeechLMRecipe:
    """From nothing, codec included, in three quarters of an hour on two cores.

    In so short a time a model of less than half the size learns more.
    """
    recipe, codec = SpeechLMRecipe(), codec_laptop()
    return replace(
        recipe,
        name="speechlm-laptop",
        # a little longer than by itself: how clear the codec is limits the model
        codec_recipe=replace(codec, train=replace(codec.train, steps=3_600)),
        lm=replace(recipe.lm, codebooks=4, width=128, layers=4, heads=2, hidden=344),
        train=replace(recipe.train, steps=5_000, warmup=100, log_every=20),
        data=replace(recipe.data, count=15_000, speakers=1_000, neutral=0.8),
        batch=10,
        weights=(3.0, 2.0, 1.0, 0.7),
        # of those tried (benchmarks/EXPERIMENTS.md) the clearest that kept the voice
        speak=SpeakConfig(
            guidance=2.0, sharpness=(1.0, 1.5), voice_guidance=1.5, timbre=0.3
        ),
        checks=2,
    )


def steps_loss(model: LanguageModel, steps: Steps, mask: float = 0.0) -> Tensor:
    """Cross-entropy in nats of each level and of the text stream, `[K + 1]`.

    In training each sequence has a share of its speech steps, drawn from 0 to `mask`,
    that see no codes: so the model must listen to the text and to the voice, and not
    only to itself.
    """
    codes, blank = steps.codes, model.config.blank
    speech = steps.roles == layout.SPEAK
    if mask:
        share = mask * torch.rand(len(speech), 1, device=speech.device)
        drop = torch.rand(speech.shape, device=speech.device) < share
        codes = codes.masked_fill((drop & speech)[:, None], blank)
    x = model.hidden(model.embed(codes, steps.text, steps.roles))
    x = x[speech]  # nothing else is predicted
    wanted = steps.next_codes.transpose(1, 2)[speech]  # [N, K]
    losses = [
        nnf.cross_entropy(head(x), wanted[:, k], ignore_index=blank)
        for k, head in enumerate(model.heads)
    ]
    text = steps.next_text[speech]
    # where every text was left out there is nothing to learn, and a mean of nothing
    total = nnf.cross_entropy(
        model.text_head(x), text, ignore_index=layout.NO_TEXT, reduction="sum"
    )
    losses.append(total / (text != layout.NO_TEXT).sum().clamp(min=1))
    return torch.stack(losses)


@torch.no_grad()
def spoken_errors(model: SpeechLM, count: int) -> PhoneErrors:
    """Phone errors of the first of the sentences and voices of `measure`."""
    judge, errors = load_recogniser(), PhoneErrors()
    for i, text in enumerate(test_sentences()[:count]):
        speaker = f"held-out:{i % 20}"
        said = model.speak(text, speaker, "neutral", seed=i).wave
        truth = fold(speak(text, speaker, seed=i).phones)
        errors += phone_errors(truth, judge.phones(said))
    return errors


@torch.no_grad()
def measure(model: SpeechLM, count: int = 40) -> dict[str, str]:
    """Phone errors of `count` unseen sentences in 20 voices never heard, neutral.

    Each voice is given by another sentence. Beside them stand the errors on the
    synthesiser's own rendering, as it is and through the codec at the same levels.
    """
    codec, levels, judge = model.codec, model.lm.config.codebooks, load_recogniser()
    sums = {name: PhoneErrors() for name in ("spoken", "codec", "original")}
    sentences, stopped = test_sentences(), 0
    for i in range(count):
        text, speaker = sentences[i % len(sentences)], f"held-out:{i % 20}"
        truth = speak(text, speaker, seed=i)
        said = model.speak(text, speaker, "neutral", seed=i)
        codes = codec.encode(truth.wave[None])
        through = codec.decode(codes, levels)[0]
        waves = (said.wave, through, truth.wave)
        for name, wave in zip(sums, waves, strict=True):
            sums[name] += phone_errors(fold(truth.phones), judge.phones(wave))
        stopped += not said.ended
    rates = {f"phone error rate, {n}": f"{e.rate:.1%}" for n, e in sums.items()}
    return rates | {"utterances that did not end": f"{stopped} of {count}"}
