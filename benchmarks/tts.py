"""How well the speech language model speaks: errors, voices, failures.

    python benchmarks/tts.py --lm runs/speechlm --count 200

Sentences and words never seen in training, in voices never heard, each given by another
sentence of the same speaker. The phone recogniser that judges has never heard a codec.
Beside the model's speech stand the synthesiser's own rendering of the same text in the
same voice, which is the truth, and that rendering through the codec, which is as good
as speech of these codes can be.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from speechlm_lab import layout
from speechlm_lab.corpus.sentences import plain, test_sentences, vocabulary
from speechlm_lab.corpus.tiny_voices import speak
from speechlm_lab.recogniser import PhoneErrors, fold, load_recogniser, phone_errors
from speechlm_lab.speaking import SpeakConfig
from speechlm_lab.speechlm import SpeechLM

PROMPTS = (
    "The old clock in the hall is never on time.",
    "My brother keeps nine green bottles under the table.",
    "We should ask her about the weather in July.",
)


def texts(kind: str, count: int) -> list[str]:
    """`count` sentences, or words, never seen in training."""
    sentences = test_sentences()
    rng = np.random.default_rng(0)
    if kind == "sentences":
        return [sentences[i] for i in rng.permutation(len(sentences))[:count]]
    words = {word for text in sentences for word in plain(text).split()}
    unseen = sorted(words - vocabulary())
    return [unseen[i] + "." for i in rng.permutation(len(unseen))[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lm", type=Path, help="folder (default: shipped)")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--voices", type=int, default=20)
    parser.add_argument("--texts", default="sentences", choices=["sentences", "words"])
    parser.add_argument("--emotion", default="neutral")
    parser.add_argument("--temperature", type=float, default=SpeakConfig.temperature)
    parser.add_argument("--pace", type=float, default=SpeakConfig.pace)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--free", action="store_true", help="do not keep to the text")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", type=Path, help="folder for the first waves")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = SpeechLM.from_pretrained(options.lm)
    judge = load_recogniser()
    config = SpeakConfig(
        temperature=options.temperature,
        pace=options.pace,
        guidance=options.guidance,
        follow=not options.free,
    )
    levels = model.lm.config.codebooks
    sums = {name: PhoneErrors() for name in ("generated", "codec", "original")}
    seconds = spoken = true = 0.0
    stopped = 0
    for i, text in enumerate(texts(options.texts, options.count)):
        speaker = f"held-out:{i % options.voices}"
        voice = speak(PROMPTS[i % len(PROMPTS)], speaker, seed=1_000 + i).wave
        truth = speak(text, speaker, options.emotion, seed=i)
        began = time.perf_counter()
        said = model.speak(text, voice, options.emotion, i, config)
        seconds += time.perf_counter() - began
        spoken += len(said.wave) / model.sample_rate
        true += len(truth.wave) / model.sample_rate
        stopped += not said.ended
        codes = model.codec.encode(truth.wave[None])
        waves = {
            "generated": said.wave,
            "codec": model.codec.decode(codes, levels)[0],
            "original": truth.wave,
        }
        for name, wave in waves.items():
            if options.save and i < 6:
                from speechlm_lab import audio

                options.save.mkdir(parents=True, exist_ok=True)
                audio.save(options.save / f"{i}_{name}.wav", wave)
            sums[name] += phone_errors(fold(truth.phones), judge.phones(wave))
    result = {f"PER {name}, %": round(100 * e.rate, 2) for name, e in sums.items()}
    result |= {
        "errors": {
            n: [e.substitutions, e.insertions, e.deletions, e.length]
            for n, e in sums.items()
        },
        "stopped": stopped,
        "duration ratio": round(spoken / true, 3),
        "real-time factor": round(spoken / seconds, 2),
        "texts": layout.TEXTS,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
