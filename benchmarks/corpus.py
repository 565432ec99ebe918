"""How fast TinyVoices is made, beside the bare synthesiser it is built on.

    python benchmarks/corpus.py [--items 300]

Speed is seconds of finished 16 kHz audio per second of one core. The bare synthesiser
speaks the same sentences with the same voices and does nothing else: no labels, no
trimming, no resampling, no sounds, no scenes. What it takes to change the voice, and
to load the library afresh so that an item depends on its arguments alone, is listed
beside it. Processor time is counted, so that a busy machine does not matter much.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch

from speechlm_lab.corpus import espeak
from speechlm_lab.corpus.tiny_voices import TinyVoices
from speechlm_lab.corpus.voices import sample_voice, voice_lines

TARGET = 200  # seconds of audio per second of one core


def timed(work: Callable[[], float]) -> tuple[float, float]:
    """(what `work` returns, processor seconds it took), the best of three."""
    best = None
    for _ in range(3):
        start = time.process_time()
        result = work()
        seconds = time.process_time() - start
        best = min(best, seconds) if best else seconds
    return result, best


def finished(items: int, **options: float) -> float:
    """Audio seconds per second for items of TinyVoices."""
    data = TinyVoices(size=items, **options)
    audio, seconds = timed(lambda: sum(item.duration for item in data))
    return audio / seconds


def bare(items: int) -> float:
    """Audio seconds per second of the synthesiser alone, loaded once."""
    data = TinyVoices(size=items, sounds=0, scenes=0)
    requests = [data.request(i) for i in range(items)]
    voices = [voice_lines(sample_voice(r["speaker"])) for r in requests]

    def work() -> float:
        samples = 0
        with espeak._Library("") as library:
            folder = espeak._data_folder()
            for request, voice in zip(requests, voices, strict=True):
                espeak._write_voice(folder, voice)
                library.lib.espeak_SetVoiceByName(b"voice")
                text = request["text"].encode()
                library.chunks.clear()
                library.lib.espeak_Synth(
                    text, len(text) + 1, 0, 1, 0, espeak._UTF8, None, None
                )
                samples += sum(len(chunk) // 2 for chunk in library.chunks)
        return samples / espeak.NATIVE_RATE

    audio, seconds = timed(work)
    return audio / seconds


def voice_switch(count: int = 300) -> float:
    """Milliseconds to write a voice file and have the library read it."""
    voices = [voice_lines(sample_voice(i)) for i in range(count)]

    def work() -> float:
        with espeak._Library("") as library:
            folder = espeak._data_folder()
            for voice in voices:
                espeak._write_voice(folder, voice)
                library.lib.espeak_SetVoiceByName(b"voice")
        return 0.0

    return 1000 * timed(work)[1] / count


def reload(count: int = 300) -> float:
    """Milliseconds to load and unload the library, one voice change included."""

    def work() -> float:
        for _ in range(count):
            with espeak._Library(""):
                pass
        return 0.0

    return 1000 * timed(work)[1] / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=300)
    items = parser.parse_args().items
    torch.set_num_threads(1)
    espeak.ipa("warm")
    speeds = {
        "bare synthesiser, 22.05 kHz": bare(items),
        "TinyVoices, speech only": finished(items, sounds=0, scenes=0),
        "TinyVoices, as it comes": finished(items),
        "TinyVoices, a sound and a scene in every item": finished(
            items, sounds=1, scenes=1
        ),
    }
    costs = {"change of voice": voice_switch(), "fresh library": reload()}
    print(f"{'':48}{'x real time':>12}")
    for name, speed in speeds.items():
        print(f"{name:48}{speed:12.0f}")
    print(f"\n{'':48}{'ms':>12}")
    for name, milliseconds in costs.items():
        print(f"{name:48}{milliseconds:12.2f}")
    slowest = min(list(speeds.values())[1:])
    print(f"\ntarget {TARGET}: {'met' if slowest >= TARGET else 'MISSED'}")
    print(json.dumps({"items": items, **speeds, **costs}))


if __name__ == "__main__":
    main()
