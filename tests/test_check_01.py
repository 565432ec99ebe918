"""Checkers of chapter 01: the chapter's solutions pass, planted mistakes get their
names, and whatever else a learner writes ends in words."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from speechlm_lab import check
from speechlm_lab.check.core import Wrong, checker, equal
from speechlm_lab.spectral import istft, stft

CHAPTER = Path(__file__).parent.parent / "chapters" / "01_spectrograms.ipynb"
NAMES = "alias quantize_with_zero spectrogram better_phase seconds_in_context".split()


def from_chapter(tag: str) -> dict:
    """What the chapter's cells with a tag define."""
    cells = json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]
    space = {"torch": torch, "Tensor": Tensor, "check": check, "math": math}
    space |= {"istft": istft, "stft": stft, "F": F}
    for cell in cells:
        if tag in cell["metadata"].get("tags", []):
            exec("".join(cell["source"]), space)
    return space


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_in_the_chapter_passes(name):
    report = getattr(check, name)(from_chapter("solution")[name])
    assert report.passed, report
    assert report.mistake is None


@pytest.mark.parametrize("name", NAMES)
def test_the_stub_in_the_chapter_gets_a_friendly_word(name):
    report = getattr(check, name)(from_chapter("exercise")[name])
    assert not report.passed
    assert f"{name} returns nothing yet" in report.message


# alias


def clipped(frequency, rate):
    return min(frequency, rate / 2)


def no_mirror(frequency, rate):
    return frequency % rate


def one_turn(frequency, rate):
    return abs(rate - frequency) if frequency > rate / 2 else frequency


# quantize_with_zero


def even_levels(wave, bits):
    top = 2**bits - 1
    return ((wave + 1) / 2 * top).round() / top * 2 - 1


def too_many(wave, bits):
    steps = 2 ** (bits - 1)
    return (wave * steps).round() / steps


def cut(wave, bits):
    steps = 2 ** (bits - 1) - 1
    return (wave * steps).int() / steps


def far_too_many(wave, bits):
    return (wave * 2**bits).round() / 2**bits


def only_codes(wave, bits):
    return (wave * (2 ** (bits - 1) - 1)).round()


# spectrogram


def frames_of(wave, n_fft, hop, window, pad=0):
    frames = F.pad(wave, (pad, pad)).unfold(0, n_fft, hop)
    return torch.fft.rfft(frames * window)


def no_window(wave, n_fft, hop):
    return frames_of(wave, n_fft, hop, 1).abs().T


def one_frame_short(wave, n_fft, hop):
    starts = range(0, len(wave) - n_fft, hop)
    window = torch.hann_window(n_fft)
    rows = [torch.fft.rfft(wave[s : s + n_fft] * window).abs() for s in starts]
    return torch.stack(rows).T


def symmetric(wave, n_fft, hop):
    window = torch.hann_window(n_fft, periodic=False)
    return frames_of(wave, n_fft, hop, window).abs().T


def power(wave, n_fft, hop):
    return frames_of(wave, n_fft, hop, torch.hann_window(n_fft)).abs().T ** 2


def time_first(wave, n_fft, hop):
    return frames_of(wave, n_fft, hop, torch.hann_window(n_fft)).abs()


def padded(wave, n_fft, hop):
    return stft(wave, n_fft, hop).abs()


def mirrored(wave, n_fft, hop):
    frames = wave.unfold(0, n_fft, hop) * torch.hann_window(n_fft)
    return torch.fft.fft(frames).abs().T


def still_complex(wave, n_fft, hop):
    return frames_of(wave, n_fft, hop, torch.hann_window(n_fft)).T


# better_phase


def there_and_back(spectrum, hop):
    return stft(istft(spectrum, hop), 2 * (len(spectrum) - 1), hop)


def unchanged_phase(magnitude, phase, hop):
    return phase


def no_magnitude(magnitude, phase, hop):
    return there_and_back(torch.polar(torch.ones_like(phase), phase), hop).angle()


def kept_magnitude(magnitude, phase, hop):
    return there_and_back(torch.polar(magnitude, phase), hop)


def only_magnitude(magnitude, phase, hop):
    return there_and_back(torch.polar(magnitude, phase), hop).abs()


def not_complex(magnitude, phase, hop):
    return there_and_back(magnitude * phase, hop).angle()


def default_frames(magnitude, phase, hop):
    return stft(istft(torch.polar(magnitude, phase), hop)).angle()


def turned(magnitude, phase, hop):
    return -there_and_back(torch.polar(magnitude, phase), hop).angle()


# seconds_in_context


def hop_forgotten(context, sample_rate, hop, K):
    return context / (sample_rate * K)


def k_forgotten(context, sample_rate, hop, K):
    return context * hop / sample_rate


def k_multiplied(context, sample_rate, hop, K):
    return context * hop * K / sample_rate


def upside_down(context, sample_rate, hop, K):
    return sample_rate / hop * K / context


@pytest.mark.parametrize(
    ("name", "learner", "mistake"),
    [
        ("alias", lambda frequency, rate: frequency, "unchanged"),
        ("alias", clipped, "clipped"),
        ("alias", no_mirror, "no mirror"),
        ("alias", one_turn, "one turn only"),
        ("quantize_with_zero", even_levels, "no level at zero"),
        ("quantize_with_zero", too_many, "too many levels"),
        ("quantize_with_zero", far_too_many, "too many levels"),
        ("quantize_with_zero", cut, "cut, not rounded"),
        ("quantize_with_zero", only_codes, "codes"),
        ("spectrogram", no_window, "no window"),
        ("spectrogram", one_frame_short, "last frame missing"),
        ("spectrogram", symmetric, "symmetric window"),
        ("spectrogram", power, "power"),
        ("spectrogram", time_first, "time first"),
        ("spectrogram", padded, "padded"),
        ("spectrogram", mirrored, "mirrored half"),
        ("spectrogram", still_complex, "complex"),
        ("better_phase", unchanged_phase, "phase unchanged"),
        ("better_phase", no_magnitude, "magnitude forgotten"),
        ("better_phase", kept_magnitude, "magnitude kept"),
        ("better_phase", only_magnitude, "magnitude returned"),
        ("better_phase", not_complex, "not complex"),
        ("better_phase", default_frames, "shape"),
        ("better_phase", turned, "sign turned"),
        ("seconds_in_context", hop_forgotten, "hop forgotten"),
        ("seconds_in_context", k_forgotten, "K forgotten"),
        ("seconds_in_context", k_multiplied, "K multiplied"),
        ("seconds_in_context", upside_down, "upside down"),
    ],
)
def test_a_planted_mistake_gets_its_name(name, learner, mistake):
    report = getattr(check, name)(learner)
    assert not report.passed
    assert report.mistake == mistake
    assert len(report.message) > 30


def divided_by_peak(wave, bits):
    return only_codes(wave / wave.abs().max(), bits) / (2 ** (bits - 1) - 1)


def two_steps(magnitude, phase, hop):
    for _ in range(2):
        phase = there_and_back(torch.polar(magnitude, phase), hop).angle()
    return phase


@pytest.mark.parametrize(
    ("name", "learner", "words"),
    [
        ("alias", lambda f, rate: min(f, rate - f), "alias(9000, 8000) gives -1000;"),
        ("quantize_with_zero", divided_by_peak, "the nearest level is"),
        ("better_phase", two_steps, "your angle is"),
        ("seconds_in_context", lambda c, r, h, K: c // r, "(2048, 16000, 256, 1)"),
    ],
)
def test_an_unknown_mistake_is_told_by_an_example(name, learner, words):
    report = getattr(check, name)(learner)
    assert not report.passed and report.mistake is None
    assert words in report.message


# What every checker does, through one small checker


@checker
def double(learner):
    x = torch.arange(3.0)
    equal(learner(x), 2 * x, "double(x)", {"squared": (x**2, "You square x.")})
    return "Doubled."


def unfinished(x):
    y = ...
    return y * 2


def to_do(x):
    raise NotImplementedError


@pytest.mark.parametrize("stub", [lambda x: None, lambda x: ..., unfinished, to_do])
def test_stubs_are_told_what_to_do(stub):
    report = double(stub)
    assert not report.passed and report.mistake is None
    assert "returns nothing yet" in report.message


def fails(x):
    return x.no_such_thing


def changes_its_input(x):
    x *= 2
    return x


@pytest.mark.parametrize(
    ("learner", "words"),
    [
        (fails, "AttributeError"),
        (fails, "return x.no_such_thing"),  # the learner's own line
        (lambda: 1, "TypeError"),
        (lambda x: exit(), "SystemExit"),
        (lambda x: "six", "str"),
        (lambda x: object(), "object"),
        (lambda x: x / 0, "NaN or infinity"),
        (lambda x: 2 * x[:2], "shape [2]; it should be [3]"),
        (lambda x: 3 * x, "at [2]: 6, where 4 is right"),
        (lambda x: 2j * x, "differs"),
        ("double", "without brackets"),
    ],
)
def test_no_learner_makes_a_checker_raise(learner, words):
    report = double(learner)
    assert not report.passed
    assert words in report.message


def test_numbers_in_any_form_are_accepted():
    for form in (list, np.asarray, lambda t: t.numpy().tolist(), lambda t: t.double()):
        assert double(lambda x, form=form: form(2 * x)).passed
    assert double(changes_its_input).mistake == "changed in place"


def test_a_report_reads_as_words_in_text_and_html():
    report = double(lambda x: x**2)
    assert repr(report) == "✗ Not yet. You square x."
    assert "✗ Not yet." in report._repr_html_() and "You square x." in (
        report._repr_html_()
    )
    assert repr(double(lambda x: 2 * x)) == "✓ Right. Doubled."
    odd = check.Report(False, "a < b\nand more")
    assert "a &lt; b" in odd._repr_html_()


def test_equal_prefers_no_mistake_that_is_no_mistake_here():
    # on this input the planted mistake and the right answer are the same
    equal([0.0], [0.0], "f(x)", {"squared": ([0.0], "You square x.")})
    with pytest.raises(Wrong, match="differs"):
        equal([1.0], [0.0], "f(x)", {"squared": ([0.0], "You square x.")})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda x: x.T, "rows and columns are swapped"),
        (lambda x: 3 * x, "3 times the right one"),
        (lambda x: -x, "-1 times the right one"),
        (lambda x: x + 2, "the right one [+]2"),
        (lambda x: x[:, ::-1], r"in reverse \(axis 1\)"),
        (lambda x: np.roll(x, 1, 0), r"too late \(axis 0\)"),
        (lambda x: np.roll(x, -1, 1), r"too early \(axis 1\)"),
        (lambda x: np.where(x > 30, 0, x), r"is right\.$"),  # nothing to say of it
    ],
)
def test_equal_says_what_a_wrong_result_has_in_common_with_the_right(wrong, words):
    right = np.arange(12.0).reshape(3, 4) ** 1.5
    with pytest.raises(Wrong, match=words):
        equal(wrong(right), right, "f(x)")
