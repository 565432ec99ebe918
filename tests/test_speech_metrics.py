"""Measures of what a model said: rates, distances at any tempo, failures."""

import math

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechlm_lab.audio import AudioError
from speechlm_lab.corpus.tiny_voices import SAMPLE_RATE, speak
from speechlm_lab.metrics import mel_distance
from speechlm_lab.recogniser import PHONES, fold, load_recogniser, phone_errors
from speechlm_lab.spectral import log_mel
from speechlm_lab.speech_metrics import (
    Failures,
    aligned_mel_distance,
    character_error_rate,
    count_failures,
    longest_runs,
    normalise,
    word_error_rate,
)

phones = st.lists(st.sampled_from(PHONES[:4]), max_size=8)


# Words


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The cat sat.", "the cat sat"),
        ("Don't — it’s [laugh] well-known!", "dont its well known"),
        ("and/or  3 \n cups?", "and or 3 cups"),
        ("[sigh]", ""),
        ("ﬁne Ｔea", "fine tea"),  # a ligature, a letter of full width
    ],
)
def test_texts_are_compared_without_case_and_punctuation(text, plain):
    assert normalise(text) == plain
    assert normalise(plain) == plain


def test_a_hand_example_is_counted_as_by_hand():
    asked = "The cat sat on the mat."  # 6 words, 22 characters
    heard = "the cat sat on mat now"  # "the" left out, "now" added
    assert word_error_rate(asked, heard) == pytest.approx(2 / 6)
    assert character_error_rate("the cat", "the bat") == pytest.approx(1 / 7)
    assert word_error_rate(asked, "") == 1
    assert word_error_rate("go", "go go go") == 2
    both = word_error_rate([asked, "go"], [heard, "Go!"])
    assert both == pytest.approx(2 / 7)  # errors and words are summed


@given(phones, phones)
def test_words_are_counted_as_phones_are(one, other):
    words = {phone: f"w{i}" for i, phone in enumerate(PHONES[:4])}
    asked, heard = ([words[p] for p in row] for row in (["p", *one], other))
    rate = word_error_rate(" ".join(asked), " ".join(heard))
    assert rate == pytest.approx(phone_errors(asked, heard).rate)


def test_bad_texts_give_one_error():
    for rate in (word_error_rate, character_error_rate):
        with pytest.raises(ValueError, match="at least one word"):
            rate("[laugh] ...", "ha")
        with pytest.raises(ValueError, match="pair up"):
            rate(["a", "b"], ["a"])


# Spectra


def melody(speed: float, notes=(220, 440, 330, 880, 550)) -> torch.Tensor:
    """Notes with overtones, which last 0.3 s at speed 1 and keep their pitch."""
    count = round(0.3 * SAMPLE_RATE / speed)
    time = torch.arange(count * len(notes)) / SAMPLE_RATE
    hz = torch.tensor([float(n) for n in notes]).repeat_interleave(count)
    phase = 2 * math.pi * (hz / SAMPLE_RATE).double().cumsum(0)
    tone = sum((k * phase).sin() / k for k in range(1, 6)).float()
    return 0.2 * tone * (1.2 + (2 * math.pi * time * speed).sin()) / 2.2


@pytest.fixture(scope="module")
def spoken():
    text = "The brown dog barked at two loud boys."
    other = "My sister sold nine old chairs in June."
    return [speak(text, 3), speak(text, 3, seed=4), speak(other, 3)]


def test_a_clip_is_at_no_distance_of_itself_at_any_loudness(spoken):
    wave = spoken[0].wave
    assert aligned_mel_distance(wave, wave) == pytest.approx(0, abs=1e-6)
    assert aligned_mel_distance(0.3 * wave, wave) == pytest.approx(0, abs=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.6, 1.6))
def test_tempo_counts_for_nothing_here_and_for_much_in_the_plain_distance(speed):
    one, other = melody(1.0), melody(speed)
    aligned = aligned_mel_distance(other, one)
    assert aligned < 1.5
    assert aligned == pytest.approx(aligned_mel_distance(one, other), rel=1e-6)
    if abs(speed - 1) > 0.1:
        size = min(len(one), len(other))
        plain = mel_distance(other[:size], one[:size])
        assert plain > 2 + 2 * aligned


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_the_way_through_both_is_the_cheapest_of_the_symmetric_form(rate):
    waves = melody(1.0)[:9_000], melody(0.8)[2_000:9_000]
    waves = [0.1 * wave / wave.square().mean().sqrt() for wave in waves]
    one, other = (
        log_mel(wave, -60, sample_rate=rate, n_fft=1024, hop=256, n_mels=80)
        for wave in waves
    )
    cost = (one[:, :, None] - other[:, None]).abs().mean(0).numpy()
    total = np.full((len(cost) + 1, cost.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i, j in np.ndindex(cost.shape):
        alone = min(total[i, j + 1], total[i + 1, j]) + cost[i, j]
        total[i + 1, j + 1] = min(alone, total[i, j] + 2 * cost[i, j])
    expected = total[-1, -1] / sum(cost.shape)
    assert aligned_mel_distance(*waves, rate) == pytest.approx(expected, rel=1e-4)


def test_stretched_speech_is_nearer_than_other_words(spoken):
    wave, again, other = (item.wave for item in spoken)
    for speed in (0.8, 1.25):
        stretched = librosa.effects.time_stretch(wave.numpy(), rate=speed)
        stretched = torch.from_numpy(stretched).clamp(-1, 1)
        near = aligned_mel_distance(stretched, wave)
        size = min(len(stretched), len(wave))
        assert near < 0.6 * mel_distance(stretched[:size], wave[:size])
        assert near < aligned_mel_distance(again, wave)
    said_again = aligned_mel_distance(again, wave)
    assert said_again == pytest.approx(aligned_mel_distance(wave, again), rel=1e-6)
    assert said_again < aligned_mel_distance(other, wave)


def test_bad_waves_give_one_error(spoken):
    wave = spoken[0].wave
    with pytest.raises(AudioError, match="silent"):
        aligned_mel_distance(torch.zeros(SAMPLE_RATE), wave)
    with pytest.raises(AudioError, match="shape"):
        aligned_mel_distance(wave[None], wave)


# Failures

ASKED = "ð ə b ɹ aʊ n d ɔ ɡ b ɑ ɹ k t æ t t u l aʊ d b ɔɪ z".split()


def test_a_clean_utterance_has_no_failure():
    assert count_failures(ASKED, ASKED) == Failures(clips=1)
    heard = list(ASKED)  # what a recogniser gets wrong is no failure
    heard[3], heard[9:10] = "l", []
    heard[14:14] = ["ə", "n"]
    assert count_failures(heard, ASKED) == Failures(clips=1)


def test_what_the_recogniser_hears_in_clean_speech_is_no_failure(spoken):
    for item in spoken:
        heard, asked = load_recogniser().phones(item.wave), fold(item.phones)
        assert count_failures(heard, asked).failed == 0
        assert count_failures(heard[:5] + heard[11:], asked).skipped == 1
        assert count_failures(heard[:15] + heard[5:], asked).repeated == 1


@pytest.mark.parametrize("at", range(0, len(ASKED) - 5, 3))
def test_planted_failures_are_found_wherever_they_are(at):
    left_out = ASKED[:at] + ASKED[at + 5 :]
    assert count_failures(left_out, ASKED) == Failures(1, 1, skipped=1)
    twice = ASKED[: at + 5] + ASKED[at:]
    assert count_failures(twice, ASKED) == Failures(1, 1, repeated=1)
    few = ASKED[:at] + ASKED[at + 3 :]
    assert count_failures(few, ASKED).failed == 0


def test_how_many_phones_make_a_skipped_stretch_can_be_set():
    left_out = ASKED[:6] + ASKED[8:]
    assert count_failures(left_out, ASKED).skipped == 0
    assert count_failures(left_out, ASKED, run=2).skipped == 1
    twice = ASKED[:8] + ASKED[6:]
    assert count_failures(twice, ASKED).repeated == 0
    assert count_failures(twice, ASKED, run=2).repeated == 1


def test_no_end_and_a_wrong_voice_are_found():
    assert count_failures(ASKED, ASKED, ended=False) == Failures(1, 1, no_end=1)
    voices = torch.eye(3)
    voice = torch.tensor([0.5, 0.8, 0.1])
    right = count_failures(ASKED, ASKED, True, voice, voices, wanted=1)
    wrong = count_failures(ASKED, ASKED, True, voice, voices, wanted=0)
    assert right.failed == 0 and wrong == Failures(1, 1, wrong_voice=1)
    total = sum([right, wrong, count_failures([], ASKED, ended=False)], Failures())
    assert total == Failures(3, 2, no_end=1, skipped=1, wrong_voice=1)
    assert total.rate == pytest.approx(2 / 3)


@given(phones, phones)
def test_runs_are_no_longer_than_the_errors_and_at_least_the_difference(asked, heard):
    missing, extra = longest_runs(asked, heard)
    errors = phone_errors(asked, heard)
    assert missing + extra <= errors.substitutions + errors.insertions + (
        errors.deletions
    )
    assert longest_runs(heard, asked) == (extra, missing)
    assert longest_runs(asked, asked) == (0, 0)
    if not heard:
        assert missing == len(asked)


@given(phones, st.integers(0, 8), st.integers(1, 5))
def test_one_stretch_left_out_is_one_run(asked, at, length):
    heard = asked[:at] + asked[at + length :]
    missing, extra = longest_runs(asked, heard)
    assert (missing, extra) == (len(asked) - len(heard), 0)


def test_bad_questions_give_one_error():
    with pytest.raises(ValueError, match="not one string"):
        count_failures("kæt", ["k"])
    with pytest.raises(ValueError, match="no phone was asked for"):
        count_failures(["k"], [])
    with pytest.raises(ValueError, match="voices"):
        count_failures(["k"], ["k"], voice=torch.ones(3))
    with pytest.raises(ValueError, match="no clip"):
        _ = Failures().rate
