"""How well the speech language model speaks: errors, voices, failures.

    python benchmarks/tts.py --lm runs/speechlm --count 200
    python benchmarks/tts.py --lm runs/speechlm-laptop --codec runs/codec-laptop

Sentences (`unseen_sentences.txt`) and words never seen in training, in voices never
heard, each given by another sentence of the same speaker. The phone recogniser that
judges has never heard a codec. Beside the model's speech stand the synthesiser's own
rendering of the same text in the same voice, which is the truth, and that rendering
through the codec, which is as good as speech of these codes can be. Words are heard in
a closed vocabulary, that of TinyVoices and of these texts (see `lexicon`).
"""

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from speechlm_lab import audio
from speechlm_lab.corpus.sentences import plain, test_sentences, vocabulary
from speechlm_lab.corpus.tiny_voices import speak
from speechlm_lab.lexicon import Lexicon
from speechlm_lab.recogniser import PhoneErrors, fold, load_recogniser, phone_errors
from speechlm_lab.speaker import SpeakerEncoder, load_speaker_encoder
from speechlm_lab.speech_metrics import (
    Failures,
    aligned_mel_distance,
    character_error_rate,
    count_failures,
    word_error_rate,
)
from speechlm_lab.speechlm import SpeechLM

SENTENCES = Path(__file__).with_name("unseen_sentences.txt")
PROMPTS = (
    "The old clock in the hall is never on time.",
    "My brother keeps nine green bottles under the table.",
    "We should ask her about the weather in July.",
)
# with fewer than six sentences a voice is not known well enough to be told from others
REFERENCES = (
    *PROMPTS,
    "Seven small boats were tied to the wooden pier.",
    "Why did you leave the kitchen window open again?",
    "A cold wind blew over the fields all through March.",
    "Please put the yellow paper back into the box.",
    "The judge heard both sides and went home early.",
)


def unseen_sentences() -> list[str]:
    """The sentences to measure on: no training and no choice of settings saw them."""
    return SENTENCES.read_text(encoding="utf-8").splitlines()


def texts(kind: str, count: int) -> list[str]:
    """Up to `count` texts never seen in training.

    kind: "sentences"; "words", one a text; or "tuning", the package's test sentences,
        on some of which the settings of speaking were chosen.
    """
    found = list(test_sentences() if kind == "tuning" else unseen_sentences())
    if kind == "words":
        seen = vocabulary() | _words(test_sentences())
        found = [word + "." for word in sorted(_words(found) - seen)]
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in order[:count]]


def _words(sentences: Iterable[str]) -> set[str]:
    return {word for text in sentences for word in plain(text).split()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lm", type=Path, help="folder (default: shipped)")
    parser.add_argument("--codec", type=Path, help="folder of its codec, if its own")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--voices", type=int, default=20)
    kinds = ["sentences", "words", "tuning"]
    parser.add_argument("--texts", default="sentences", choices=kinds)
    parser.add_argument("--emotion", default="neutral")
    # how it speaks, where not as the model does by itself
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--pace", type=float)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--voice-guidance", type=float)
    parser.add_argument("--timbre", type=float)
    parser.add_argument("--drawn", type=int)
    parser.add_argument("--sharpness", type=float, nargs=2)
    parser.add_argument("--free", action="store_true", help="do not keep to the text")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", type=Path, help="folder for the first waves")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = (
        SpeechLM.from_folders(options.codec, options.lm)
        if options.codec
        else SpeechLM.from_pretrained(options.lm)
    )
    judge = load_recogniser()
    given = {name: getattr(options, name) for name in vars(model.config)
             if getattr(options, name, None) is not None}  # fmt: skip
    if options.sharpness is not None:
        given["sharpness"] = tuple(options.sharpness)
    config = replace(model.config, follow=not options.free, **given)
    levels = model.lm.config.codebooks
    sums = {name: PhoneErrors() for name in ("generated", "codec", "original")}
    per_clip = {name: [] for name in sums}
    mel = {name: [] for name in ("generated", "codec", "wrong text")}
    names = [f"held-out:{i}" for i in range(options.voices)]
    encoder = load_speaker_encoder()
    voices = torch.stack([reference(encoder, name) for name in names])
    own = {name: 0 for name in sums}
    failures, seconds, spoken, true = Failures(), 0.0, 0.0, 0.0
    before = None
    chosen = texts(options.texts, options.count)
    lexicon = Lexicon([*vocabulary(), *chosen])
    written = {name: [] for name in sums}  # the words that are heard
    for i, text in enumerate(chosen):
        speaker = names[i % options.voices]
        voice = speak(PROMPTS[i % len(PROMPTS)], speaker, seed=1_000 + i).wave
        truth = speak(text, speaker, options.emotion, seed=i)
        began = time.perf_counter()
        said = model.speak(text, voice, options.emotion, i, config)
        seconds += time.perf_counter() - began
        spoken += len(said.wave) / model.sample_rate
        true += len(truth.wave) / model.sample_rate
        codes = model.codec.encode(truth.wave[None])
        waves = {
            "generated": said.wave,
            "codec": model.codec.decode(codes, levels)[0],
            "original": truth.wave,
        }
        asked = fold(truth.phones)
        for name, wave in waves.items():
            if options.save and i < 6:
                options.save.mkdir(parents=True, exist_ok=True)
                audio.save(options.save / f"{i}_{name}.wav", wave)
            heard = judge.phones(wave)
            errors = phone_errors(asked, heard)
            per_clip[name].append(errors)
            sums[name] += errors
            written[name].append(lexicon.hear(wave, judge))
            # one word may be too short for it: said twice, it is the same voice
            found = encoder.embed(wave.repeat(2))
            own[name] += int((voices @ found).argmax()) == i % options.voices
            if name == "generated":
                failures += count_failures(
                    heard, asked, said.ended, found, voices, i % options.voices
                )
            if name != "original":
                mel[name].append(aligned_mel_distance(wave, truth.wave))
        if before is not None:
            mel["wrong text"].append(aligned_mel_distance(before, truth.wave))
        before = said.wave
    count = len(per_clip["generated"])
    result = {
        f"phone error rate, {name}": f"{e.rate:.1%} ± {deviation(per_clip[name]):.1%}"
        for name, e in sums.items()
    }
    wanted = [lexicon.spelled(text) for text in chosen]
    for name, rate in (("word", word_error_rate), ("character", character_error_rate)):
        result |= {
            f"{name} error rate, {n}": f"{rate(wanted, w):.1%}"
            for n, w in written.items()
        }
    result |= {f"closest to its own voice, {n}": f"{own[n] / count:.1%}" for n in own}
    result |= {
        f"aligned mel distance, {n}, dB": round(sum(d) / len(d), 2)
        for n, d in mel.items()
        if d
    }
    result |= {
        "failures": str(failures),
        "said in the time of the truth": round(spoken / true, 3),
        "times real time": round(spoken / seconds, 2),
    }
    print(json.dumps(result, indent=1, ensure_ascii=False))


def reference(encoder: SpeakerEncoder, speaker: str) -> torch.Tensor:
    """What a speaker's voice is like, from sentences of neither set."""
    said = [speak(text, speaker, seed=9_000).wave for text in REFERENCES]
    mean = torch.stack([encoder.embed(wave) for wave in said]).mean(0)
    return mean / mean.norm()


def deviation(errors: list[PhoneErrors], draws: int = 500) -> float:
    """Standard error of the rate, from clips drawn again with replacement."""
    wrong = np.array([e.substitutions + e.insertions + e.deletions for e in errors])
    length = np.array([e.length for e in errors])
    rows = np.random.default_rng(0).integers(len(errors), size=(draws, len(errors)))
    return float((wrong[rows].sum(1) / length[rows].sum(1)).std())


if __name__ == "__main__":
    main()
