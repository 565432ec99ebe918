"""Probes: labels of frames, pitch, scores of codes, intervals, bits of a code."""

import math

import librosa
import numpy as np
import pytest
import scipy.signal
import scipy.stats
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from speechlm_lab.corpus.items import Span
from speechlm_lab.corpus.tiny_voices import speak
from speechlm_lab.probes import (
    CodeProbe,
    autocorrelation,
    fit,
    frame_labels,
    hits,
    interval,
    next_code_bits,
    pitch,
    pool,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# Labels of frames


def test_a_frame_gets_the_label_of_its_middle():
    spans = [Span("a", 0.02, 0.045), Span("b", 0.045, 0.065)]
    # frames of 20 ms: the middles are at 0.01, 0.03, 0.05, 0.07, 0.09
    assert frame_labels(spans, 5, 50.0) == ["", "a", "b", "", ""]
    assert frame_labels(spans, 5, 50.0, silence="-")[0] == "-"


def test_labels_agree_with_a_search_frame_by_frame():
    item = speak("A slow grey horse.", speaker=3)
    frames = math.ceil(len(item.wave) / 320)
    labels = frame_labels(item.phones, frames, 50.0)
    for f, label in enumerate(labels):
        middle = (f + 0.5) / 50
        inside = [s.label for s in item.phones if s.start <= middle < s.end]
        assert label == (inside[-1] if inside else "")


def test_spans_beyond_the_recording_are_cut():
    assert frame_labels([Span("a", -1.0, 9.0)], 3, 50.0) == ["a"] * 3
    assert frame_labels([], 2, 50.0) == ["", ""]


# Pitch


@pytest.mark.parametrize("hz", [80.0, 120.0, 200.0, 333.0])
def test_pitch_of_a_buzz(hz):
    time = torch.arange(16_000) / 16_000
    wave = sum((2 * math.pi * h * hz * time).sin() / h for h in range(1, 8)) / 5
    found = pitch(wave)
    assert len(found) == 50
    inner = found[3:-3]
    assert (12 * (inner / hz).log2()).abs().max() < 0.5  # semitones


def test_noise_and_silence_have_no_pitch():
    assert pitch(torch.zeros(8000)).max() == 0
    noise = 0.1 * torch.randn(16_000, generator=generator())
    assert (pitch(noise) > 0).float().mean() < 0.1


def test_a_missing_fundamental_is_still_the_pitch():
    time = torch.arange(16_000) / 16_000
    wave = sum((2 * math.pi * h * 150 * time).sin() for h in (2, 3, 4)) / 6
    assert (pitch(wave)[3:-3] / 150 - 1).abs().max() < 0.03


def test_pitch_agrees_with_librosa_on_speech():
    item = speak("We all sang along in the early morning.", speaker=8)
    ours = pitch(item.wave).numpy()
    theirs, voiced, _ = librosa.pyin(
        item.wave.numpy(), fmin=60, fmax=400, sr=16_000, frame_length=1024,
        hop_length=320,
    )  # fmt: skip
    both = (ours > 0) & voiced[: len(ours)]
    assert both.sum() > 30
    apart = 12 * np.abs(np.log2(ours[both] / theirs[: len(ours)][both]))
    assert np.median(apart) < 0.5 and (apart < 1).mean() > 0.85


def test_pitch_has_one_number_a_frame_of_the_codec():
    for samples in (1, 319, 320, 321, 5000):
        assert len(pitch(torch.zeros(samples))) == math.ceil(samples / 320)


def test_pitch_says_what_it_takes():
    with pytest.raises(ValueError, match=r"wave\[0\]"):
        pitch(torch.zeros(1, 1000))


def test_autocorrelation_agrees_with_scipy():
    x = torch.randn(1, 50, generator=generator())
    full = scipy.signal.correlate(x[0].numpy(), x[0].numpy(), "full")[49:]
    assert torch.allclose(autocorrelation(x)[0], torch.tensor(full) / 50, atol=1e-5)


# Probes


def test_a_code_probe_is_a_linear_layer_on_one_hot_rows():
    probe = CodeProbe(2, 5, 3)
    nn.init.normal_(probe.scores)
    nn.init.normal_(probe.bias)
    codes = torch.randint(5, (2, 7), generator=generator())
    one_hot = torch.cat([nn.functional.one_hot(c, 5) for c in codes], dim=1)
    expected = one_hot.float() @ probe.scores + probe.bias
    assert torch.allclose(probe(codes), expected, atol=1e-6)
    starts = torch.tensor([0, 4])
    mean = torch.stack([expected[:4].mean(0), expected[4:].mean(0)])
    assert torch.allclose(probe(codes, starts), mean, atol=1e-6)


def test_one_level_learns_the_most_frequent_class_of_each_code():
    codes = torch.randint(6, (1, 600), generator=generator())
    labels = (codes[0] * 7 % 4 + (torch.rand(600, generator=generator(1)) < 0.2)) % 4
    probe = fit(CodeProbe(1, 6, 4), (codes,), labels, steps=200)
    answer = probe(torch.arange(6)[None]).argmax(1)
    for code in range(6):
        assert answer[code] == labels[codes[0] == code].mode().values


def test_fit_agrees_with_sklearn():
    x = torch.randn(400, 5, generator=generator())
    labels = (x @ torch.randn(5, 3, generator=generator(1))).argmax(1)
    test = torch.randn(400, 5, generator=generator(2))
    torch.manual_seed(0)
    probe = fit(nn.Linear(5, 3), (x,), labels, steps=300, decay=1e-4)
    theirs = LogisticRegression(C=10.0).fit(x.numpy(), labels.numpy())
    same = probe(test).argmax(1).numpy() == theirs.predict(test.numpy())
    assert same.mean() > 0.95
    assert hits(probe, (x,), labels).mean() > 0.9


def test_a_probe_does_not_find_what_is_not_there():
    codes = torch.randint(8, (1, 4000), generator=generator())
    labels = torch.randint(2, (4000,), generator=generator(1))
    probe = fit(CodeProbe(1, 8, 2), (codes[:, :2000],), labels[:2000])
    found = hits(probe, (codes[:, 2000:],), labels[2000:]).mean()
    assert 0.45 < found < 0.55


def test_pool_takes_mean_and_spread():
    vectors = [torch.randn(n, 3, generator=generator(n)) for n in (5, 9)]
    pooled = pool(vectors)
    assert pooled.shape == (2, 6)
    assert torch.allclose(pooled[1, :3], vectors[1].mean(0))
    assert torch.allclose(pooled[1, 3:], vectors[1].std(0))


# Intervals


def test_interval_agrees_with_scipy_where_each_score_is_its_own_group():
    scores = (torch.rand(300, generator=generator()) < 0.7).float()
    ours = interval(scores, torch.arange(300), draws=4000)
    theirs = scipy.stats.bootstrap(
        (scores.numpy(),), np.mean, method="percentile", rng=0
    ).confidence_interval
    assert ours.value == pytest.approx(scores.mean().item())
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_groups_that_are_alike_make_the_interval_wider():
    scores = (torch.rand(20, generator=generator()) < 0.5).float().repeat(50)
    groups = torch.arange(20).repeat(50)
    frames = interval(scores, torch.arange(1000))
    speakers = interval(scores, groups)
    assert speakers.value == frames.value
    assert speakers.high - speakers.low > 3 * (frames.high - frames.low)


def test_interval_covers_as_often_as_it_says():
    inside = 0
    for seed in range(200):
        scores = (torch.rand(100, generator=generator(seed)) < 0.6).float()
        found = interval(scores, torch.arange(100), draws=200, seed=seed)
        inside += found.low <= 0.6 <= found.high
    assert 180 <= inside <= 199


def test_an_interval_reads_as_percentages():
    assert str(interval(torch.ones(4), torch.arange(4))) == "100% (100% to 100%)"


# Bits of the next code


def test_bits_of_even_independent_codes_are_those_of_the_list():
    codes = torch.randint(16, (20_000,), generator=generator())
    alone, after = next_code_bits([codes[:10_000]], [codes[10_000:]], 16)
    assert alone == pytest.approx(4, abs=0.01)
    assert after == pytest.approx(4, abs=0.05)


def test_bits_of_a_chain_come_near_its_entropy():
    table = torch.rand(6, 6, generator=generator()).square()
    table = table / table.sum(1, keepdim=True)
    codes = [0]
    for row in torch.rand(20_000, generator=generator(1)):
        codes.append(
            int(torch.searchsorted(table[codes[-1]].cumsum(0), row).clamp(max=5))
        )
    codes = torch.tensor(codes)
    found = next_code_bits([codes[:10_000]], [codes[10_000:]], 6)
    share = torch.bincount(codes).double() / len(codes)
    rows = torch.special.entr(table.double()).sum(1) / math.log(2)
    assert found.after == pytest.approx((share @ rows).item(), abs=0.05)
    assert found.alone == pytest.approx(
        scipy.stats.entropy(share.numpy(), base=2), abs=0.05
    )


def test_codes_never_seen_still_have_a_price():
    bits = next_code_bits([torch.tensor([0, 1, 0, 1])], [torch.tensor([2, 3, 3])], 4)
    assert math.isfinite(bits.alone) and math.isfinite(bits.after)
