"""Our codec beside Opus and Codec 2: bits, quality, speed and size in one table.

    python benchmarks/codec.py [--clips 20] [--checkpoint FOLDER]
        [--strided FOLDER] [--laptop FOLDER] [--json] [--csv FILE]

Three sets of clips, none of them used in training, every clip at one root mean square:

- TinyVoices, held-out voices: sentences of 2 s and more, no sounds or scenes;
- Barista, last tenth of the train split: whole recordings;
- FSDD, test split: a single digit is too short for STOI and PESQ, so one clip is the
  ten digits of one speaker and take, each digit at the same level, 0.1 s of silence
  after each: 6 speakers x 5 takes, some 4 s each. They were recorded at 8 kHz, and
  what any codec makes of them is brought to that rate and back, as `decode` does.

Below the table: the lowest bit rate at which ours is still ahead of Opus at 6 kbit/s.
What follows a ± is a bootstrap standard error over clips.

PER is the phone error rate by `speechlm_lab.recogniser`: on TinyVoices against the
phones that were spoken, on recordings, whose phones are not known, against those that
it hears in the original ("disagreement"; mild noise already costs it a lot there).
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from codec_clips import SETS, Clip
from codec_peers import PEERS, Decoded, ProgramMissing, judge
from torch import Tensor
from torch.nn import functional as nnf

from speechlm_lab.audio import SAMPLE_RATE, resample
from speechlm_lab.codec import Codec, StridedCodec
from speechlm_lab.codec.files import load_codec
from speechlm_lab.codes_file import pack
from speechlm_lab.corpus.download import DownloadError
from speechlm_lab.recogniser import load_recogniser, phone_errors

OURS = "ours"
FEW = (1, 2, 4, 7, 13)  # levels at which others than the shipped one are measured
RIVALS = ("Opus 6 kbit/s, 20 ms", "Opus 6 kbit/s, 60 ms")
# +1: higher is better. The order of what `judge` returns, then PER
MEASURES = {"STOI": 1, "PESQ-wb": 1, "mel dB": -1, "PER %": -1}
DIGITS_SHOWN = {"STOI": 3, "PESQ-wb": 2, "mel dB": 2, "PER %": 1}


class Result(NamedTuple):
    """What one codec did on one set."""

    clips: str  # name of the set
    codec: str
    bitrate: float  # bit/s, bits of all clips over their seconds
    scores: dict[str, np.ndarray]  # a value a clip for each of MEASURES
    speed: float  # seconds of audio per second of coding and decoding
    weights: int | None  # learned numbers, codebooks too; None: nothing learned


@torch.no_grad()
def ours(codec: Codec | StridedCodec, levels: int, wave: Tensor) -> Decoded:
    """Code a wave `[T]` by `levels` codebooks; bits are those of the packed codes."""
    codes = codec.quantizer.encode(codec.latents(wave[None]), levels)
    size = len(pack(codes[0], codec.config.codebook_size))  # bytes, as in a file
    decoded = codec.decode(codes, length=len(wave))[0].clamp(-1, 1)
    return Decoded(decoded, 8 * size / (len(wave) / SAMPLE_RATE))


def phone_error_rates(decoded: Sequence[Tensor], clips: Sequence[Clip]) -> np.ndarray:
    """Per cent for each clip; their mean is errors of all clips over phones of all."""
    recogniser = load_recogniser()
    errors, counts = [], []
    for wave, clip in zip(decoded, clips, strict=True):
        spoken = clip.phones or recogniser.phones(clip.wave)
        found = phone_errors(spoken, recogniser.phones(wave.clamp(-1, 1)))
        errors.append(found.substitutions + found.insertions + found.deletions)
        counts.append(len(spoken))
    return 100 * np.array(errors) / np.mean(counts)


def measure(
    name: str, clips: list[Clip], codec: str, run: Callable, weights: int | None
) -> Result:
    """Code and decode all clips of a set, and judge them."""
    seconds = [len(clip.wave) / SAMPLE_RATE for clip in clips]
    run(clips[0].wave)  # the first time something is loaded, and that is not to count
    began = time.perf_counter()
    decoded = [run(clip.wave) for clip in clips]
    spent = time.perf_counter() - began
    decoded = [
        d._replace(wave=as_recorded(d.wave, clip.rate))
        for d, clip in zip(decoded, clips, strict=True)
    ]
    rows = [judge(d.wave, clip.wave) for d, clip in zip(decoded, clips, strict=True)]
    columns = [*np.array(rows).T, phone_error_rates([d.wave for d in decoded], clips)]
    scores = dict(zip(MEASURES, columns, strict=True))
    bits = np.average([d.bitrate for d in decoded], weights=seconds)
    return Result(name, codec, float(bits), scores, sum(seconds) / spent, weights)


def as_recorded(wave: Tensor, rate: int) -> Tensor:
    """A decoded wave without what lies above half of the `rate` of the recording.

    As `speechlm-lab decode` writes it, and as every player of such files would.
    """
    if rate >= SAMPLE_RATE:
        return wave
    back = resample(resample(wave, SAMPLE_RATE, rate), rate, SAMPLE_RATE)
    return nnf.pad(back, (0, max(0, len(wave) - len(back))))[: len(wave)].clamp(-1, 1)


def standard_error(values: np.ndarray, draws: int = 1000) -> float:
    """Bootstrap standard error of the mean of `values` `[N]`; nan for less than 2."""
    if len(values) < 2:
        return float("nan")
    drawn = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    return float(values[drawn].mean(1).std())


class Margin(NamedTuple):
    """How far ours is ahead of a rival, at the lowest bit rate where it is."""

    bitrate: float | None  # bit/s; None: it is ahead nowhere
    at: float  # bit/s that `margin` is for: `bitrate`, or where ours comes nearest
    margin: float  # mean over clips, positive: ours is better; nan: not measured
    error: float  # bootstrap standard error of it


def lowest_ahead(own: Sequence[Result], rival: Result, measure: str) -> Margin:
    """The lowest bit rate at which ours is ahead of `rival` in a measure, on average.

    Clip by clip, so that what is hard about a clip cancels. `own`: results of one set
    at several bit rates, at least one.
    """
    found = []
    for result in own:
        ahead = MEASURES[measure] * (result.scores[measure] - rival.scores[measure])
        found.append((result.bitrate, float(ahead.mean()), standard_error(ahead)))
    found.sort()
    for bitrate, margin, error in found:
        if margin > 0:
            return Margin(bitrate, bitrate, margin, error)
    nearest = max(found, key=lambda f: f[1])
    return Margin(None, *nearest)


def lowest_ahead_in_all(
    own: Sequence[Result], rival: Result, measures: Sequence[str]
) -> float | None:
    """The lowest bit rate at which ours is ahead of `rival` in all `measures`."""
    ahead = [
        result.bitrate
        for result in own
        if all(
            MEASURES[m] * (result.scores[m] - rival.scores[m]).mean() > 0
            for m in measures
        )
    ]
    return min(ahead, default=None)


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table; a score that is nan leaves its cell empty."""
    lines = [
        f"| set | codec | bit/s | {' | '.join(MEASURES)} | x real time | weights |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        cells = [
            shown(values.mean(), standard_error(values), DIGITS_SHOWN[name])
            for name, values in r.scores.items()
        ]
        size = f"{r.weights / 1e6:.2f}M" if r.weights else "none"
        row = [r.clips, r.codec, f"{r.bitrate:.0f}", *cells, f"{r.speed:.0f}", size]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def write_csv(results: Sequence[Result], path: Path) -> None:
    """Bits and means of the table, rounded as there; chapter 05 reads them."""
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["set", "codec", "bit/s", *MEASURES])
        for r in results:
            means = [
                shown(values.mean(), 0, DIGITS_SHOWN[name]).partition(" ")[0]
                for name, values in r.scores.items()
            ]
            writer.writerow([r.clips, r.codec, f"{r.bitrate:.0f}", *means])


def shown(mean: float, error: float, digits: int) -> str:
    """A mean and its standard error; empty when it was not measured."""
    if np.isnan(mean):
        return ""
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def summary(results: Sequence[Result]) -> list[dict]:
    """The lowest bit rates at which ours is ahead, for each set and rival measured."""
    rows = []
    for name in dict.fromkeys(r.clips for r in results):
        own = [r for r in results if r.clips == name and r.codec.startswith(OURS)]
        for rival in results:
            if rival.clips != name or rival.codec not in RIVALS:
                continue
            known = [m for m in MEASURES if not np.isnan(rival.scores[m]).any()]
            margins = {m: lowest_ahead(own, rival, m)._asdict() for m in known}
            judged = [m for m in known if m in ("STOI", "PESQ-wb")]
            both = lowest_ahead_in_all(own, rival, judged)
            rows.append(
                {"set": name, "rival": rival.codec, **margins}
                | {"all of": judged, "bitrate": both}
            )
    return rows


def sentences(rows: Sequence[dict]) -> list[str]:
    """`summary` in words, a line for each set and rival."""
    lines = []
    for row in rows:
        parts = []
        for name in MEASURES:
            if name not in row:
                continue
            m, digits = row[name], DIGITS_SHOWN[name]
            where = "nowhere" if m["bitrate"] is None else f"{m['bitrate']:.0f} bit/s"
            margin = f"{m['margin']:+.{digits}f} ± {m['error']:.{digits}f}"
            at = f" at {m['at']:.0f}" if m["bitrate"] is None else ""
            parts.append(f"{name} {where} ({margin}{at})")
        rate = row["bitrate"]
        both = "nowhere" if rate is None else f"{rate:.0f} bit/s"
        parts.append(f"{' and '.join(row['all of'])} together {both}")
        lines.append(f"- {row['set']}, {row['rival']}: {'; '.join(parts)}")
    return lines


def plain(result: Result) -> dict:
    """A result for JSON: means and standard errors; None for what is not measured."""
    scores = {
        name: None
        if np.isnan(v).any()
        else {"mean": float(v.mean()), "standard_error": standard_error(v)}
        for name, v in result.scores.items()
    }
    count = len(result.scores["STOI"])
    return result._asdict() | {"scores": scores, "number": count}


def size_of(codec: torch.nn.Module) -> int:
    """Numbers that were learned, codebooks too."""
    names = {*dict(codec.named_parameters())}
    return sum(
        tensor.numel()
        for name, tensor in codec.state_dict().items()
        if name in names or name.endswith(".codebook")  # a buffer, where EMA moves it
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=20, help="clips a set, at most")
    parser.add_argument("--checkpoint", type=Path, help="another codec of ours")
    parser.add_argument("--strided", type=Path, help="a strided codec to add")
    parser.add_argument(
        "--laptop", type=Path, help="one of ours to add, trained for as long as that"
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--json", action="store_true", help="print JSON, no table")
    parser.add_argument("--csv", type=Path, help="write the table to a file, too")
    args = parser.parse_args()
    if args.clips < 2:
        parser.error("--clips must be at least 2, for an error to be told")
    codecs = {OURS: load_codec(args.checkpoint)}
    if args.strided:
        codecs["strided"] = StridedCodec.from_pretrained(args.strided).eval()
    if args.laptop:
        codecs["laptop"] = load_codec(args.laptop)
    runs = {"original, 16 bits": (lambda wave: Decoded(wave, 16.0 * SAMPLE_RATE), None)}
    for title, codec in codecs.items():
        levels = range(1, codec.config.codebooks + 1)
        for k in levels if title == OURS else [k for k in FEW if k in levels]:
            runs[f"{title}, {k} of {codec.config.codebooks} levels"] = (
                lambda wave, codec=codec, k=k: ours(codec, k, wave), size_of(codec),
            )  # fmt: skip
    results, notes = [], []
    for name in args.sets:
        try:
            clips = SETS[name](args.clips)
        except DownloadError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        total = sum(len(clip.wave) for clip in clips) / SAMPLE_RATE
        notes.append(f"{name}: {len(clips)} clips, {total:.0f} s")
        for title, (run, size) in runs.items():
            results.append(measure(name, clips, title, run, size))
        for title, run in PEERS.items():
            try:
                results.append(measure(name, clips, title, run, None))
            except ProgramMissing as error:
                notes.append(f"{title} is left out: {error}")
    if any(np.isnan(r.scores["PESQ-wb"]).any() for r in results):
        notes.append("PESQ is left out: run `pip install -e .[compiled]`")
    notes.append(
        f"x real time: coding and decoding, {torch.get_num_threads()} thread(s); for "
        "Opus and Codec 2 it holds the start of two programs and their files"
    )
    notes = list(dict.fromkeys(notes))
    lowest = summary(results)
    if args.csv:
        write_csv(results, args.csv)
    if args.json:
        rows = [plain(r) for r in results]
        json.dump({"results": rows, "lowest": lowest, "notes": notes}, sys.stdout)
        print()
        return
    print(table(results))
    print("\nLowest bit rate at which ours is still ahead of Opus at 6 kbit/s:\n")
    print("\n".join(sentences(lowest)))
    print("\n" + "\n".join(notes))


if __name__ == "__main__":
    main()
