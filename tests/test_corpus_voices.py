"""Speakers: endless, reproducible, and the held-out ones apart."""

import numpy as np
import pytest

from speechlm_lab.corpus.voices import (
    SpeakerError,
    parse_speaker,
    sample_voice,
    voice_lines,
)


def test_speakers_all_differ_and_ranges_are_disjoint():
    train = {voice_lines(sample_voice(i)) for i in range(2000)}
    held_out = {voice_lines(sample_voice(f"held-out:{i}")) for i in range(2000)}
    assert len(train) == len(held_out) == 2000
    assert not train & held_out


def test_a_speaker_is_for_ever():
    assert sample_voice(17) == sample_voice("17") == sample_voice(17)
    assert sample_voice("held-out:3") != sample_voice(3)
    assert sample_voice(10**12).speaker == str(10**12)


def test_voices_cover_a_human_range():
    voices = [sample_voice(i) for i in range(500)]
    pitch = np.array([v.pitch for v in voices])
    assert pitch.min() >= 65 and pitch.max() <= 330
    assert np.percentile(pitch, 90) > 1.8 * np.percentile(pitch, 10)
    assert {v.kind for v in voices} == {"low", "high", "child"}
    # a higher voice comes with a shorter vocal tract
    assert np.corrcoef(np.log(pitch), [v.tract for v in voices])[0, 1] > 0.5


def test_no_line_is_too_long_for_the_library():
    for i in range(200):
        assert max(len(x) for x in voice_lines(sample_voice(i)).splitlines()) < 100


@pytest.mark.parametrize(
    "wrong", [-1, "held-out:", "held-out:-2", "bob", None, 1.5, True, "", "held out:3"]
)
def test_wrong_speakers(wrong):
    with pytest.raises(SpeakerError, match="held-out:3"):
        sample_voice(wrong)


def test_parse_speaker():
    assert parse_speaker(4) == (False, 4)
    assert parse_speaker("held-out:12") == (True, 12)
