"""Captions say what is in an item, and nothing that is not."""

import numpy as np
import pytest

from speechlm_lab.corpus import captions
from speechlm_lab.corpus.emotions import EMOTIONS
from speechlm_lab.corpus.scenes import SCENES
from speechlm_lab.corpus.tiny_voices import TinyVoices
from speechlm_lab.corpus.voices import sample_voice


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_an_emotion_and_a_sound_are_told(emotion):
    voice = sample_voice(3)
    rng = np.random.default_rng(0)
    told = captions.describe(voice, emotion, ["speech", "laugh"], None, rng)
    assert told[0].isupper() and told.endswith(".")
    assert "laughs" in told
    assert "sighs" not in told and "while" not in told


@pytest.mark.parametrize("scene", SCENES)
def test_a_scene_makes_the_caption_longer(scene):
    def told(scene):
        rng = np.random.default_rng(0)
        return captions.describe(sample_voice(3), "sad", ["speech"], scene, rng)

    assert len(told(scene)) > len(told(None))


def test_different_emotions_are_told_differently():
    told = {
        captions.describe(
            sample_voice(3), emotion, ["speech"], None, np.random.default_rng(0)
        )
        for emotion in EMOTIONS
    }
    assert len(told) == len(EMOTIONS)


def test_items_carry_their_caption():
    items = TinyVoices(size=5, scenes=1.0)
    assert all(items[i].caption.endswith(".") for i in range(5))
