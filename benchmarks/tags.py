"""Are tags such as [laugh] spoken as the sounds that they name?

    python benchmarks/tags.py --count 20

A small judge learns what the sounds of the synthesiser are like: by the mean and the
spread of their log-mel spectra, under one covariance (linear discriminants). It is made
from voices of the training split, tried on true sounds of voices kept out of it, and
then told what the language model made of the same texts in the same voices.
"""

import argparse

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from speechlm_lab.corpus.text import TAGS
from speechlm_lab.corpus.tiny_voices import SAMPLE_RATE, speak
from speechlm_lab.spectral import log_mel
from speechlm_lab.speechlm import SpeechLM

FRAMES = (  # a sound between words, before them and after them
    "We went to the market {} and came back late.",
    "{} I have not seen her since June.",
    "That is all there is to say {}.",
)


def features(wave: Tensor) -> np.ndarray:
    """Mean and deviation over time of a sound's log-mel spectrum, level taken out."""
    if len(wave) < 1024:
        wave = torch.nn.functional.pad(wave, (0, 1024 - len(wave)))
    level = log_mel(wave[None], floor=-80.0)[0]
    level = level - level.mean()
    spread = level.std(1) if level.shape[1] > 1 else torch.zeros(len(level))
    return torch.cat([level.mean(1), spread]).numpy()


def judge_of(known: dict[str, list[np.ndarray]]) -> LinearDiscriminantAnalysis:
    """A judge whose `predict` names the tags of sounds `[N, features]`."""
    sounds = np.concatenate([np.array(found) for found in known.values()])
    tags = np.repeat(list(known), [len(found) for found in known.values()])
    # drawn towards a round covariance: there are hardly more sounds than features
    judge = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1)
    return judge.fit(sounds, tags)


def true_sound(tag: str, voice: int | str, number: int) -> np.ndarray:
    """Features of a tag's sound as the synthesiser makes it."""
    item = speak(FRAMES[number % 3].format(f"[{tag}]"), voice, "neutral", seed=number)
    (event,) = item.events
    begin, end = (round(t * SAMPLE_RATE) for t in (event.start, event.end))
    return features(item.wave[begin:end])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20, help="sounds a tag")
    count = parser.parse_args().count
    torch.set_num_threads(1)
    judge = judge_of({tag: [true_sound(tag, i, i) for i in range(60)] for tag in TAGS})
    model = SpeechLM.from_pretrained()
    print("| tag | true sounds named rightly | the model's | what it was taken for |")
    print("|---|---|---|---|")
    for tag in TAGS:
        voices = [f"held-out:{i}" for i in range(count)]
        true = [true_sound(tag, v, i) for i, v in enumerate(voices)]
        true = judge.predict(true).tolist()
        said = []
        for i, voice in enumerate(voices):
            text = FRAMES[i % 3].format(f"[{tag}]")
            made = model.speak(text, voice, "neutral", seed=i)
            (span,) = [s for s in made.tokens if s.label == f"[{tag}]"]
            begin, end = (round(t * SAMPLE_RATE) for t in (span.start, span.end))
            said.append(features(made.wave[begin:end]))
        said = judge.predict(said).tolist()
        wrong = {name: said.count(name) for name in TAGS if name != tag}
        print(
            f"| {tag} | {true.count(tag)} of {count} | {said.count(tag)} of {count} | "
            + ", ".join(f"{n} {name}" for name, n in wrong.items() if n)
            + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
