"""The player: the very samples, the same gain, and words for those who need them."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile
import torch
from elements import Elements

from speechlm_lab.assets import asset
from speechlm_lab.audio import AudioError
from speechlm_lab.player import player, players

WAVE = torch.randn(8000, generator=torch.manual_seed(0)).clamp(-3, 3) / 4


def sounds(shown):
    """Samples and rate of each audio element."""
    return [
        soundfile.read(io.BytesIO(base64.b64decode(a["src"].split("base64,")[1])))
        for a in Elements(shown._repr_html_()).all("audio")
    ]


def test_plays_the_samples_that_it_was_given():
    ((samples, rate),) = sounds(player(WAVE, "noise", sample_rate=8000))
    assert rate == 8000
    assert np.abs(samples - WAVE.numpy()).max() <= 1 / 32768


def test_the_gain_is_fixed_whatever_the_level():
    quiet, loud = sounds(players([player(WAVE * g, "x") for g in (0.01, 1)]))
    assert np.abs(quiet[0]).max() == pytest.approx(
        0.01 * np.abs(loud[0]).max(), rel=0.02
    )
    ((half, _),) = sounds(player(WAVE, "x", gain=0.5))
    assert np.abs(half - 0.5 * WAVE.numpy()).max() <= 1 / 32768
    assert "Gain 0.5" in player(WAVE, "x", gain=0.5).body
    assert "Gain" not in player(WAVE, "x").body


def test_never_starts_by_itself_and_fetches_nothing():
    page = Elements(player(WAVE, "noise")._repr_html_())
    (audio,) = page.all("audio")
    assert "controls" in audio and audio["preload"] == "metadata"
    assert "autoplay" not in audio and "loop" not in audio
    assert audio["src"].startswith("data:audio/flac;base64,")
    shown = players([player(WAVE, "a"), player(WAVE, "b")])._repr_html_()
    assert not re.search(r"https?:|//cdn|@import|url\(", shown)


def test_label_and_transcript_are_shown_and_said():
    page = Elements(player(WAVE, "a voice", "Good morning.")._repr_html_())
    assert "a voice" in page.text and "Good morning." in page.text
    assert page.all("audio")[0]["aria-label"] == "a voice, 0.5 seconds"


def test_a_clip_below_a_second_shows_how_long_it_is():
    # the browser shows whole seconds: "0:00 / 0:00" reads like an empty player
    assert "(0.5 s)" in Elements(player(WAVE, "half a second").body).text
    shortest = Elements(player(WAVE[:480], "a click").body)
    assert "(0.03 s)" in shortest.text
    assert shortest.all("audio")[0]["aria-label"] == "a click, 0.03 seconds"
    assert "slm-seconds" not in player(torch.cat([WAVE, WAVE]), "a second").body


def test_players_of_a_row_stand_at_one_height_and_are_wide_enough():
    """The sound comes last, at the bottom; a column is wide enough for a seek bar."""
    body = player(WAVE, "soft", "words", gain=0.5).body
    assert "slm-note" in body and re.search(r"</audio></figure>$", body)
    css = asset("player.css")
    figure = re.search(r"\.slm-player \{([^}]*)\}", css)[1]
    assert "flex-direction: column" in figure
    assert "margin-top: auto" in re.search(r"\.slm-player audio \{([^}]*)\}", css)[1]
    least, widest = (
        float(re.search(pattern, css)[1])
        for pattern in (
            r"minmax\(min\(([\d.]+)rem",
            r"\.slm-row[^}]*max-width: (\d+)rem",
        )
    )
    assert least >= 20 and widest / least <= 3


def test_text_is_escaped():
    nasty = "<script>\"&'"
    shown = player(WAVE, nasty, nasty)._repr_html_()
    page = Elements(shown)
    assert not page.all("script")
    assert page.text.count(nasty) == 2
    assert page.all("audio")[0]["aria-label"].startswith(nasty)


def test_clipping_is_seen():
    wave = WAVE.clone()
    wave[:3] = torch.tensor([1.5, -1.2, 1.0])
    shown = player(wave, "too loud")
    assert "Clipped: 2 samples" in shown.body and "1.5" in shown.body
    ((samples, _),) = sounds(shown)
    assert samples.max() <= 1 and samples[1] == -1
    assert "Clipped" not in player(WAVE, "fine").body


def test_accepts_what_a_model_hands_out():
    wave = WAVE[None, None].clone().requires_grad_()
    assert len(sounds(player(wave, "x"))[0][0]) == 8000
    assert sounds(player(WAVE.numpy().astype(np.float16), "x"))


def test_output_does_not_depend_on_when_it_is_made():
    assert player(WAVE, "x")._repr_html_() == player(WAVE, "x")._repr_html_()


def test_a_row_holds_its_players_and_no_ids():
    row = players([player(WAVE, "one"), player(WAVE, "two")])
    page = Elements(row._repr_html_())
    assert len(page.all("audio")) == 2 and len(page.all("style")) == 1
    assert not any("id" in attributes for _, attributes in page.found)
    (keep,) = page.all("label")
    assert "hidden" in keep  # the script shows it: without script it would do nothing


def test_half_a_minute_is_about_as_large_as_16_bits():
    long = torch.sin(torch.arange(30 * 16_000) / 20) * 0.3
    assert len(player(long, "long").body) < 30 * 16_000 * 2 * 4 / 3


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: player(WAVE, " "), "label"),
        (lambda: player(torch.zeros(0), "x"), "empty"),
        (lambda: player(torch.full((9,), torch.inf), "x"), "NaN or infinity"),
        (lambda: player(torch.zeros(2, 9), "x"), r"\[2, 9\].*wave\[0\]"),
        (lambda: player(WAVE * 32768, "x"), "divide"),
        (lambda: player(WAVE, "x", sample_rate=0), "rate"),
        (lambda: players([]), "at least one"),
    ],
)
def test_bad_input_is_one_clear_error(call, says):
    with pytest.raises(AudioError, match=says):
        call()
