"""The parts of the codec benchmark that compute and tell, without any codec."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from speechlm_lab.codec import Codec, CodecConfig

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(FOLDER))  # it imports its neighbour, as a program does
    try:
        spec = importlib.util.spec_from_file_location("bench", FOLDER / "codec.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.clips = sys.modules["codec_clips"]
    finally:
        sys.path.remove(str(FOLDER))
        for name in ("codec_peers", "codec_clips"):
            sys.modules.pop(name, None)
    return module


def result(bench, codec, bitrate, stoi, pesq=2.0, mel=3.0, clips=4):
    means = zip(bench.MEASURES, (stoi, pesq, mel, 10.0), strict=True)
    spread = np.linspace(-0.01, 0.01, clips)  # clips differ, and their mean is 0
    scores = {name: mean + spread for name, mean in means}
    return bench.Result("set", codec, bitrate, scores, 40.0, None)


def ladder(bench, **scores):
    """Ours at 400, 800, 1200 bit/s with STOI .7, .8, .9."""
    return [
        result(bench, f"ours, {k} of 3 levels", 400.0 * k, 0.6 + 0.1 * k, **scores)
        for k in (1, 2, 3)
    ]


def test_standard_error_is_that_of_the_mean(bench):
    values = np.random.default_rng(1).normal(5, 2, size=400)
    assert bench.standard_error(values) == pytest.approx(2 / 20, rel=0.15)
    assert bench.standard_error(np.full(9, 3.0)) == 0
    assert np.isnan(bench.standard_error(np.ones(1)))


def test_the_lowest_bit_rate_ahead_is_found_whatever_the_order(bench):
    rival = result(bench, bench.RIVALS[0], 6000, 0.75)
    margin = bench.lowest_ahead(ladder(bench)[::-1], rival, "STOI")
    assert margin.bitrate == margin.at == 800
    assert margin.margin == pytest.approx(0.05)
    assert margin.error == pytest.approx(0, abs=1e-9)  # every clip leads by the same


def test_ahead_nowhere_tells_where_it_comes_nearest(bench):
    rival = result(bench, bench.RIVALS[0], 6000, 0.95)
    margin = bench.lowest_ahead(ladder(bench), rival, "STOI")
    assert margin.bitrate is None
    assert margin.at == 1200
    assert margin.margin == pytest.approx(-0.05)


def test_a_tie_is_not_ahead(bench):
    rival = result(bench, bench.RIVALS[0], 6000, 0.75, pesq=2.0)
    assert bench.lowest_ahead(ladder(bench), rival, "PESQ-wb").bitrate is None


def test_a_lower_mel_distance_is_ahead(bench):
    rival = result(bench, bench.RIVALS[0], 6000, 0.95, mel=3.5)
    assert bench.lowest_ahead(ladder(bench, mel=3), rival, "mel dB").bitrate == 400
    assert bench.lowest_ahead(ladder(bench, mel=4), rival, "mel dB").bitrate is None


def test_ahead_in_all_takes_every_measure(bench):
    rival = result(bench, bench.RIVALS[0], 6000, 0.75, pesq=1.9)
    own = ladder(bench)
    assert bench.lowest_ahead_in_all(own, rival, ["PESQ-wb"]) == 400
    assert bench.lowest_ahead_in_all(own, rival, ["PESQ-wb", "STOI"]) == 800
    rival = result(bench, bench.RIVALS[0], 6000, 0.75, pesq=2.1)
    assert bench.lowest_ahead_in_all(own, rival, ["PESQ-wb", "STOI"]) is None


def test_without_pesq_its_cell_is_empty_and_the_rest_is_told(bench):
    nan = float("nan")
    rival = result(bench, bench.RIVALS[0], 6000, 0.75, pesq=nan)
    results = [*ladder(bench, pesq=nan), rival]
    row = bench.table(results).splitlines()[-1]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[2:7] == [rival.codec, "6000", "0.750 ± 0.004", "", "3.00 ± 0.00"]
    (line,) = bench.sentences(bench.summary(results))
    assert "STOI 800 bit/s (+0.050 ± 0.000)" in line
    assert "STOI together 800 bit/s" in line
    assert "PESQ" not in line
    assert bench.plain(rival)["scores"]["PESQ-wb"] is None
    json.dumps([bench.plain(rival), *bench.summary(results)], allow_nan=False)


def test_the_csv_holds_what_the_table_shows(bench, tmp_path):
    results = [*ladder(bench), result(bench, "silent", 0, 0.5, pesq=float("nan"))]
    bench.write_csv(results, tmp_path / "codec.csv")
    assert read_csv(tmp_path / "codec.csv") == columns(bench.table(results))


def test_the_committed_csv_is_the_committed_table():
    results = (FOLDER / "RESULTS.md").read_text(encoding="utf-8")
    table = results[results.index("| set | codec |") :].partition("\n\n")[0]
    assert read_csv(FOLDER / "codec.csv") == columns(table)


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def columns(table):
    """Set, codec, bit/s and the means of a Markdown table, without their errors."""
    head, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:8]] for line in table.splitlines()
    ]
    return [head] + [row[:3] + [c.partition(" ")[0] for c in row[3:]] for row in rows]


def test_without_opus_there_is_no_summary(bench):
    assert bench.summary(ladder(bench)) == []


def test_joined_digits_have_one_level_and_gaps(bench):
    generator = torch.Generator().manual_seed(0)
    loud, soft = 0.05 * torch.randn(2, 1600, generator=generator)
    clip = bench.clips.join([loud, soft / 50])
    gap = round(bench.clips.GAP * bench.SAMPLE_RATE)
    assert len(clip) == 2 * (1600 + gap)
    assert clip.square().mean().sqrt().item() == pytest.approx(
        bench.clips.RMS, rel=1e-3
    )
    first, second = clip[:1600], clip[1600 + gap : -gap]
    assert first.norm().item() == pytest.approx(second.norm().item(), rel=0.05)
    assert not clip[1600 : 1600 + gap].any()


def test_bits_are_counted_in_what_is_written(bench):
    codec = Codec(CodecConfig(width=16, fine_width=16, codebooks=3)).eval()
    wave = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    for levels in (1, 3):
        decoded = bench.ours(codec, levels, wave)
        assert decoded.wave.shape == wave.shape
        assert decoded.bitrate == pytest.approx(codec.bitrate(levels), rel=0.02)


def test_phone_errors_add_up_over_clips(bench, monkeypatch):
    """The mean over clips is errors of all over phones of all."""

    class Hears:
        def phones(self, wave):
            return ["a"] * int(wave[0])

    monkeypatch.setattr(bench, "load_recogniser", Hears)
    waves = [torch.ones(1), 1 * torch.ones(1)]
    clips = [bench.clips.Clip(waves[0], ["a"]), bench.clips.Clip(waves[1], ["a"] * 9)]
    rates = bench.phone_error_rates(waves, clips)
    assert rates.mean() == pytest.approx(100 * 8 / 10)
    unknown = [bench.clips.Clip(torch.ones(1))] * 2
    assert bench.phone_error_rates(waves, unknown).mean() == 0
