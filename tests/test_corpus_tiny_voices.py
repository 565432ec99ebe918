"""TinyVoices: pure functions of their arguments, level, labelled, clear in refusal."""

import multiprocessing
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from speechlm_lab.corpus.emotions import EMOTIONS
from speechlm_lab.corpus.scenes import SCENES, active_level
from speechlm_lab.corpus.sentences import test_sentences as held_out_sentences
from speechlm_lab.corpus.text import TAGS
from speechlm_lab.corpus.tiny_voices import (
    PEAK,
    SAMPLE_RATE,
    TinyVoices,
    phonemes,
    speak,
)

ALL = TinyVoices(size=24, seed=3, sounds=0.5, scenes=0.5)


def assert_same(one, two):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(two, field.name)
        assert torch.equal(a, b) if field.name == "wave" else a == b, field.name


def _items(indices):
    return [(i, ALL[i]) for i in indices]


def test_an_item_is_the_same_in_any_order():
    forward = [ALL[i] for i in range(24)]
    for i in reversed(range(24)):
        assert_same(ALL[i], forward[i])


def test_an_item_is_the_same_in_any_process():
    indices = list(np.random.default_rng(0).permutation(24)[:8])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.apply(_items, (indices,))
    for i, item in elsewhere:
        assert_same(item, ALL[i])


def test_worker_processes_give_the_same_items():
    ALL[0]  # the library is in use before the fork
    loader = DataLoader(ALL, batch_size=None, num_workers=2)
    items = list(loader)
    assert len(items) == 24
    for i, item in enumerate(items):
        assert_same(item, ALL[i])


def test_seeds_and_splits_give_other_items():
    assert ALL[0].text != TinyVoices(size=24, seed=4)[0].text
    splits = ("train", "held-out", "test")
    train, held_out, test = (TinyVoices(split, size=40) for split in splits)
    assert all(not train[i].speaker.startswith("held-out:") for i in range(10))
    assert all(held_out[i].speaker.startswith("held-out:") for i in range(10))
    assert all(test[i].speaker.isdigit() for i in range(10))
    texts = {test.request(i)["text"] for i in range(40)}
    spoken = {" ".join(w for w in t.split() if not w.startswith("[")) for t in texts}
    assert spoken <= set(held_out_sentences()) and len(spoken) > 20


def test_indices():
    data = TinyVoices(size=3)
    assert len(data) == 3 and len(list(data)) == 3
    for wrong in (-1, 3, 10**9):
        with pytest.raises(IndexError, match="data set of 3"):
            data[wrong]
    with pytest.raises(TypeError):
        data["1"]
    assert_same(data[np.int64(2)], data[2])


@pytest.mark.parametrize(
    "options",
    [
        {"split": "dev"},
        {"emotions": ("bored",)},
        {"emotions": ()},
        {"sounds": 1.5},
        {"scenes": -0.1},
        {"size": -1},
        {"speakers": 0},
    ],
)
def test_wrong_options(options):
    with pytest.raises(ValueError):
        TinyVoices(**options)


def test_probabilities_and_choices_are_kept():
    data = TinyVoices(size=400, emotions=("sad",), sounds=0.3, scenes=0.2, speakers=5)
    requests = [data.request(i) for i in range(400)]
    assert {r["emotion"] for r in requests} == {"sad"}
    assert {r["speaker"] for r in requests} == set(range(5))
    assert 0.22 < np.mean(["[" in r["text"] for r in requests]) < 0.38
    assert 0.13 < np.mean([r["scene"] is not None for r in requests]) < 0.27


def test_levels():
    items = [ALL[i] for i in range(24)]
    for item in items:
        assert item.wave.dtype == torch.float32 and item.wave.ndim == 1
        assert item.wave.abs().max() <= PEAK + 1e-4
        pcm = item.wave * 32768
        assert torch.equal(pcm, pcm.round())  # survives a 16-bit file
    quiet = [speak("A level voice.", s, seed=s).wave.numpy() for s in range(30)]
    levels = 20 * np.log10([active_level(w, SAMPLE_RATE) for w in quiet])
    assert -26 < levels.mean() < -22
    assert 0.8 < levels.std() < 4


@pytest.mark.parametrize("speaker", [2, 17, "held-out:3"])
def test_words_lie_where_the_sound_is(speaker):
    item = speak("Stop, [laugh] please. Go, [breath] now!", speaker, seed=2)
    wave = item.wave.numpy()

    def level(start, end):
        cut = wave[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
        return 10 * np.log10(np.mean(cut**2))

    first, last = item.words[0].start, item.words[-1].end
    words = [level(w.start, w.end) for w in item.words]
    assert level(0, first - 0.01) < min(words) - 10
    assert level(last + 0.03, item.duration) < min(words) - 10
    assert [w.label for w in item.words] == ["Stop", "please", "Go", "now"]
    labelled = sorted(item.words + item.events, key=lambda span: span.start)
    assert [s.label for s in labelled] == [
        "Stop", "laugh", "please", "Go", "breath", "now",
    ]  # fmt: skip
    for one, two in zip(labelled, labelled[1:], strict=False):
        assert one.end <= two.start
    assert labelled[-1].end <= item.duration


def test_times_survive_trimming_sounds_and_resampling():
    # the words after a sound are the words without it, as far as the level goes
    plain = speak("Seven green boats.", 5, seed=1)
    later = speak("[cough] Seven green boats.", 5, seed=1)
    shift = later.words[0].start - plain.words[0].start
    assert shift > 0.2
    for a, b in zip(plain.phones, later.phones, strict=True):
        assert a.label == b.label
        assert abs(b.start - a.start - shift) < 1e-6
    cut = [
        i.wave.numpy()[int(i.words[0].start * SAMPLE_RATE) :][: int(0.9 * SAMPLE_RATE)]
        for i in (plain, later)
    ]
    best = np.correlate(cut[0], cut[1][80:-80], "valid")
    assert abs(int(best.argmax()) - 80) <= 2  # 2 samples: 0.1 ms
    assert best.max() / np.linalg.norm(cut[0]) / np.linalg.norm(cut[1]) > 0.9


@pytest.mark.parametrize("tag", TAGS)
def test_each_sound_is_an_event(tag):
    item = speak(f"Well [{tag}] yes", 17, seed=4)
    assert [e.label for e in item.events] == [tag]
    event = item.events[0]
    assert 0.1 < event.duration < 3
    wave = item.wave.numpy()
    cut = wave[int(event.start * SAMPLE_RATE) : int(event.end * SAMPLE_RATE)]
    quiet = wave[: int(item.words[0].start * SAMPLE_RATE) - 160]
    assert active_level(cut, SAMPLE_RATE) > 2 * np.sqrt(np.mean(quiet**2))
    only = speak(f"[{tag}]", 17, seed=4)
    assert only.words == () and len(only.events) == 1


def test_a_laugh_comes_in_bursts():
    for speaker in range(4):
        item = speak("[laugh]", speaker, seed=speaker)
        event = item.events[0]
        wave = item.wave.numpy()
        cut = wave[int(event.start * SAMPLE_RATE) : int(event.end * SAMPLE_RATE)]
        frames = cut[: len(cut) // 320 * 320].reshape(-1, 320)
        power = np.mean(frames**2, axis=1)
        loud = power > 0.15 * power.max()
        assert np.sum(np.diff(loud.astype(int)) == 1) + loud[0] >= 3


def test_a_scene_lies_behind_the_same_voice():
    quiet = speak("Can you hear me now?", 9, seed=6)
    for scene, snr in (("rain", 10.0), ("siren", 0.0), ("bell", 15.0)):
        noisy = speak("Can you hear me now?", 9, seed=6, scene=scene, snr=snr)
        assert noisy.words == quiet.words and noisy.scene == scene
        behind = (noisy.wave - quiet.wave).numpy()
        voice = active_level(quiet.wave.numpy(), SAMPLE_RATE)
        measured = 20 * np.log10(voice / active_level(behind, SAMPLE_RATE))
        assert abs(measured - snr) < 4


def test_every_scene_and_emotion_can_be_spoken():
    for i, scene in enumerate(SCENES):
        emotion = EMOTIONS[i % len(EMOTIONS)]
        item = speak("Yes.", i, emotion, seed=i, scene=scene)
        assert item.scene == scene and item.emotion == emotion
        assert torch.isfinite(item.wave).all()
        assert item.caption.endswith(".") and " while " in item.caption


def test_a_caption_names_what_is_there():
    item = speak("Oh [sigh] no [cough]", 3, "sad", scene="footsteps")
    assert "sad" in item.caption
    assert "sighs" in item.caption and "coughs" in item.caption
    assert "walking" in item.caption or "footsteps" in item.caption


def test_text_is_what_was_asked_for():
    text = "“Don’t” – she said [laugh] 3 times…"
    assert speak(text, 1).text == text


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ({"text": "???"}, "letter"),
        ({"text": "你好"}, "write it out"),
        ({"text": "hi [yawn]"}, r"\[laugh\]"),
        ({"text": "hi", "emotion": "bored"}, "whispered"),
        ({"text": "hi", "scene": "disco"}, "rain"),
        ({"text": "hi", "speaker": "bob"}, "held-out:3"),
    ],
)
def test_clear_refusals(arguments, remedy):
    with pytest.raises(ValueError, match=remedy):
        speak(**arguments)


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "7",
        "&",
        "$5.20!",
        "x" * 400,
        "naïve café Ångström",
        "line one\n\nline two\tand a tab",
        "A.B.C. e.g. 3:45 p.m. 1/2 @home #1",
        "SHOUTING WORDS, and (brackets) too; \"quotes\" 'here'",
        "[breath][sigh] , [laugh].",
    ],
)
def test_awkward_texts_are_spoken(text):
    item = speak(text, 4)
    assert item.duration > 0.15
    assert all(0 <= s.start <= s.end <= item.duration for s in item.phones)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text("abcXYZ é'\".,;:!?()-/&%$#+=@*£€°0123456789\n", max_size=40))
def test_any_text_is_spoken_or_refused(text):
    try:
        item = speak(text, 3)
    except ValueError as error:
        assert "letter" in str(error)
        assert not any(c.isalnum() for c in text)
    else:
        assert item.phones
        assert all(0 <= s.start < s.end <= item.duration for s in item.words)


def test_a_very_long_text():
    text = "The quiet river winds past the old mill. " * 60
    item = speak(text, 4)
    assert len(item.words) == 60 * 8
    assert item.words[-1].label == "mill"
    assert item.duration > 100
    assert item.wave.abs().max() <= PEAK + 1e-4


def test_phonemes():
    assert phonemes("Hello [laugh] world") == "həlˈoʊ wˈɜːld"
    assert phonemes("[laugh]") == ""
    with pytest.raises(ValueError):
        phonemes("???")


def test_speakers_sound_different_and_alike():
    def spectrum(speaker, seed, text):
        wave = speak(text, speaker, seed=seed).wave.numpy()
        frames = np.lib.stride_tricks.sliding_window_view(wave, 512)[::160]
        power = np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2
        loud = power[power.sum(1) > 1e-3 * power.sum(1).max()].mean(0)
        bands = loud[:256].reshape(32, 8).sum(1)
        return np.log(bands / bands.sum())

    texts = "We counted every boat in the harbor.", "My garden has a small green gate."
    one, two = ([spectrum(s, i, t) for s in range(10)] for i, t in enumerate(texts))
    distance = np.array([[np.abs(a - b).mean() for b in two] for a in one])
    assert np.mean(distance.argmin(1) == np.arange(10)) >= 0.7  # chance: 0.1
