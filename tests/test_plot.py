"""Pictures: what they say, what they show, and what they cost."""

import base64
import gc
import html
import io
import re
import weakref

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from speechlm_lab import plot, spectral
from speechlm_lab.corpus.items import Span
from speechlm_lab.plot.picture import (
    DPI,
    PALETTE,
    WIDTH,
    Picture,
    PlotError,
    draw_title,
)

RATE = 16_000


def sine(frequency=1000.0, seconds=1.0, amplitude=0.5):
    time = torch.arange(int(seconds * RATE)) / RATE
    return amplitude * torch.sin(2 * torch.pi * frequency * time)


def noise(seconds=3.0):
    return 0.1 * torch.randn(int(seconds * RATE), generator=torch.manual_seed(0))


SPANS = [Span("hi", 0.1, 0.3), Span("aʊ", 0.3, 0.62)]

PICTURES = {
    "waveform": lambda: plot.waveform(sine(), spans=SPANS, title="a sine"),
    "few samples": lambda: plot.waveform(sine()[:50]),
    "mel": lambda: plot.spectrogram(noise(), spans=SPANS, title="noise"),
    "linear": lambda: plot.spectrogram(sine(), scale="linear"),
    "levels": lambda: plot.spectrogram(spectral.log_mel(sine())),
    "compare": lambda: plot.compare({"one": sine(), "two": noise()}),
    "codes": lambda: plot.codes(torch.arange(96).view(1, 8, 12) % 7, size=512),
    "codes in seconds": lambda: plot.codes(torch.arange(300).view(2, 150), 25.0),
    "attention": lambda: plot.attention(torch.eye(4), keys=list("$a$b")),
    "lines": lambda: plot.lines({"train": [(1, 3), (2, 2)]}, "step", "loss (nat)"),
    "rate_quality": lambda: plot.rate_quality({"toy": [(900, 1.3)]}, "PESQ"),
    "scatter": lambda: plot.scatter({"a": [(0, 1), (2, 5)], "b": [(1, 1)]}, "x", "y"),
    "bars": lambda: plot.bars({"phone": 0.8}, "share", errors={"phone": 0.1}),
}


@pytest.fixture(params=PICTURES, name="picture")
def one_of_each(request):
    return PICTURES[request.param]()


def test_has_alt_text_in_the_page(picture):
    shown = picture._repr_mimebundle_()["text/html"]
    (alt,) = re.findall(r'<img[^>]* alt="([^"]*)"', shown)
    assert html.unescape(alt) == picture.alt
    assert len(alt) > 20


def test_every_axis_has_a_label(picture):
    picture.png()
    panels = [a for a in picture.axes if a.get_label() != "<colorbar>"]
    assert panels[-1].get_xlabel()
    ylabel = panels[0].get_ylabel() or picture.get_supylabel()
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert ylabel or any(name.strip("−0123456789.") for name in names)
    for bar in set(picture.axes) - set(panels):
        assert bar.get_ylabel()


def test_file_is_a_small_sharp_png(picture):
    png = picture.png()
    assert len(png) < 100_000
    width, height = Image.open(io.BytesIO(png)).size
    assert width == round(WIDTH * DPI)


def test_is_not_in_pyplot_and_leaves_memory():
    import matplotlib.pyplot

    before = matplotlib.pyplot.get_fignums()
    picture = plot.spectrogram(sine())
    picture.png()
    assert matplotlib.pyplot.get_fignums() == before
    gone = weakref.ref(picture)
    del picture
    gc.collect()
    assert gone() is None


def test_style_does_not_leak_into_matplotlib():
    before = dict(matplotlib.rcParams)
    plot.waveform(sine()).png()
    assert dict(matplotlib.rcParams) == before


def test_same_data_same_bytes():
    assert plot.spectrogram(sine()).png() == plot.spectrogram(sine()).png()


def test_few_colours_stay_true():
    picture = plot.spectrogram(noise())
    picture.png()  # the first drawing settles the layout
    picture.canvas.draw()
    true = np.asarray(picture.canvas.buffer_rgba())[..., :3].astype(int)
    saved = np.asarray(Image.open(io.BytesIO(picture.png())).convert("RGB")).astype(int)
    assert np.abs(true - saved).max() <= 2
    assert (saved[0, 0] == 255).all()


def test_changes_made_afterwards_are_shown():
    picture = plot.waveform(sine())
    before = picture.png()
    picture.axes[0].axvline(0.5, color="black")
    assert picture.png() != before


def test_shown_once_in_ipython():
    from IPython.core.interactiveshell import InteractiveShell

    picture = plot.waveform(sine())
    data, _ = InteractiveShell().display_formatter.format(picture)
    assert set(data) == {"text/html", "image/png", "text/plain"}
    assert base64.b64decode(data["image/png"]) == picture.png()


def test_alt_text_tells_what_the_data_hold():
    alt = plot.spectrogram(sine(1000), title="a sine", spans=SPANS).alt
    near = float(re.search(r"near (\d+) Hz", alt)[1])
    assert abs(near - 1000) < 60
    assert "a sine" in alt and "aʊ 0.30–0.62 s" in alt
    linear = plot.spectrogram(sine(3000), scale="linear").alt
    assert "near 3000 Hz" in linear
    assert "0.5" in plot.waveform(sine()).alt
    assert "toy from 1.3 at 0.9" in PICTURES["rate_quality"]().alt


def test_a_scatter_shows_every_point_and_says_where_they_are():
    cloud = torch.randn(400, 2, generator=torch.manual_seed(0)) + 9
    picture = plot.scatter({"few": [(0, 1), (2, 5)], "many": cloud}, "x", "y")
    few, many = picture.axes[0].lines
    assert few.get_xydata().tolist() == [[0, 1], [2, 5]]
    assert np.allclose(many.get_xydata(), cloud)
    assert few.get_marker() != many.get_marker()
    assert "few, 2 points around (1, 3); many, 400 points around (" in picture.alt
    assert [t.get_text() for t in picture.axes[0].get_legend().texts] == ["few", "many"]
    assert "b, 1 point around (1, 1)." in PICTURES["scatter"]().alt


def test_own_alt_text_wins():
    assert plot.spectrogram(sine(), spans=SPANS, alt="My words.").alt == "My words."
    assert plot.lines({"a": [(0, 1)]}, "x", "y", alt="Mine.").alt == "Mine."


def test_alt_text_cannot_be_empty():
    with pytest.raises(PlotError, match="alt text"):
        Picture(2.0, "  ")


def test_text_is_escaped():
    shown = plot.waveform(sine(), title='<b>"x"</b>').body
    assert "<b>" not in shown and "&lt;b&gt;&quot;x&quot;" in shown


def test_a_sine_lies_at_its_tick():
    """The brightest row of a 2 kHz sine is where the axis says 2 kHz."""
    for scale in ("mel", "linear"):
        (axes, _) = plot.spectrogram(sine(2000), scale=scale).axes
        (image,) = axes.images
        row = image.get_array().mean(1).argmax()
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert abs(axes.get_yticks()[names.index("2")] - row) <= 1


def test_a_click_lies_at_its_time():
    wave = torch.zeros(RATE)
    wave[8000] = 1
    (axes, _) = plot.spectrogram(wave).axes
    (image,) = axes.images
    left, right, *_ = image.get_extent()
    frames = image.get_array().shape[1]
    frame = np.nanargmax(image.get_array().sum(0))
    assert left + (frame + 0.5) * (right - left) / frames == pytest.approx(
        0.5, abs=0.02
    )


def test_same_colours_for_loud_and_quiet():
    limits = {plot.spectrogram(sine(amplitude=a)).axes[0].images[0].get_clim()
              for a in (0.01, 1.0)}  # fmt: skip
    assert limits == {plot.LIMITS["mel"]}


def test_compared_sounds_share_axes():
    picture = plot.compare({"short": sine(seconds=0.5), "long": sine(seconds=2.0)})
    first, second, _ = picture.axes
    assert first.get_xlim() == second.get_xlim()
    assert first.get_xlim()[1] == pytest.approx(2.0, abs=0.02)
    assert first.images[0].get_clim() == second.images[0].get_clim()
    assert picture.alt.count("spectrogram") == 2


def test_a_long_wave_keeps_its_peaks():
    wave = torch.zeros(10 * RATE)
    wave[77_777] = 0.9
    picture = plot.waveform(wave)
    (band,) = picture.axes[0].collections
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(0.9)


def test_the_last_sample_is_drawn():
    wave = torch.zeros(50_001)
    wave[-1] = 0.9
    (band,) = plot.waveform(wave).axes[0].collections
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(0.9)


def test_labels_do_not_print_over_each_other():
    words = [Span(f"word{i}", i / 8, i / 8 + 0.12) for i in range(16)]
    picture = plot.waveform(sine(seconds=2.0), spans=words, title="many words")
    picture.png()
    axes = picture.axes[0]
    boxes = [t.get_window_extent() for t in (*axes.texts, axes._left_title)]
    assert len(boxes) == 17
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize("draw", [plot.waveform, plot.spectrogram])
def test_labels_without_room_are_left_out_and_none_hangs_over_the_side(draw):
    crowd = [Span(f"mmmm{i}", i / 20, (i + 1) / 20) for i in range(20)]
    picture = draw(sine(), spans=[Span("<neutral>", 0, 0.02), *crowd], title="many")
    picture.png()
    axes = picture.axes[0]
    assert 3 <= len(axes.texts) < 21
    boxes = [t.get_window_extent() for t in (*axes.texts, axes._left_title)]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    left, right = axes.get_window_extent().intervalx
    assert all(left - 1 <= box.x0 and box.x1 <= right + 1 for box in boxes[:-1])
    assert "mmmm19" in picture.alt


def test_neighbouring_labels_do_not_touch():
    phones = [Span(p, 0.2 + i * 0.06, 0.26 + i * 0.06) for i, p in enumerate("ndɚðəb")]
    picture = plot.spectrogram(sine(seconds=2.7), spans=phones)
    picture.png()
    letter = picture.dpi * 8.5 / 72
    rows = {}
    for text in picture.axes[0].texts:
        rows.setdefault(text.xyann[1], []).append(text.get_window_extent())
    for boxes in rows.values():
        for one, next_ in zip(boxes, boxes[1:], strict=False):
            assert next_.x0 - one.x1 > 0.2 * letter


def test_a_few_samples_have_milliseconds():
    (axes,) = plot.waveform(sine()[:32]).axes
    axes.figure.canvas.draw()
    assert axes.get_xlabel() == "time (ms)"
    said = [label.get_text() for label in axes.get_xticklabels()]
    assert max(map(len, said)) <= 4 and float(said[-1]) == pytest.approx(2)
    assert axes.get_xlim() == (0, 0.002)  # marks are still placed in seconds
    assert plot.waveform(sine()).axes[0].get_xlabel() == "time (s)"


def test_a_title_looks_the_same_in_a_picture_of_your_own():
    own, ours = Picture(2.0, "my own picture"), plot.waveform(sine(), title="a title")
    draw_title(own.axes[0], "a title")
    assert own.axes[0].get_title("left") == ours.axes[0].get_title("left") == "a title"
    assert own.axes[0]._left_title.get_size() == ours.axes[0]._left_title.get_size()


def test_padding_in_codes_stays_white():
    (axes, _) = plot.codes(torch.tensor([[3, -1], [2, 1]])).axes
    assert axes.images[0].get_array().mask.tolist() == [[False, True], [False, False]]
    assert [t.get_text() for t in axes.texts] == ["3", "2", "1"]


def test_palette_differs_in_lightness_or_hue():
    assert len(set(PALETTE.values())) == 7
    assert PALETTE["vermillion"] == "#D55E00"  # Okabe and Ito: 213, 94, 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: plot.waveform(torch.zeros(2, 100)), r"\[2, 100\].*pick one"),
        (lambda: plot.waveform(torch.full((10,), torch.nan)), "NaN"),
        (lambda: plot.waveform(torch.zeros(0)), "shape"),
        (lambda: plot.spectrogram(sine(), scale="bark"), '"mel" or "linear"'),
        (lambda: plot.spectrogram(torch.zeros(2, 80, 9)), "pick one"),
        (lambda: plot.compare({}), "at least one"),
        (lambda: plot.compare({"a": torch.zeros(80, 5), "b": torch.zeros(40, 5)}),
         "number of bins"),
        (lambda: plot.codes(torch.zeros(2, 4, 9)), "pick one"),
        (lambda: plot.attention(torch.eye(3), keys=["a"]), "1 names for 3"),
        (lambda: plot.lines({}, "x", "y"), "no curve"),
        (lambda: plot.lines({"a": [(0, float("nan"))]}, "x", "y"), "NaN"),
        (lambda: plot.scatter({}, "x", "y"), "no group"),
        (lambda: plot.scatter({"a": torch.zeros(4, 3)}, "x", "y"), "two columns"),
        (lambda: plot.scatter({"a": [(0, float("nan"))]}, "x", "y"), "NaN"),
        (lambda: plot.bars({}, "x"), "no bar"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_error(call, says):
    with pytest.raises(PlotError, match=says):
        call()


def test_the_number_of_a_bar_below_zero_does_not_cover_the_names():
    picture = plot.bars({"a voice": 0.9, "another one": -0.0959}, "similarity")
    (axes,) = picture.axes
    picture.canvas.draw()
    left = axes.get_window_extent().x0
    assert all(t.get_window_extent().x0 > left for t in axes.texts)


def test_the_numbers_of_bars_have_no_powers_of_ten():
    values = {"many": 2400, "nearly": 999.7, "few": 0.01234, "some": 86.13}
    picture = plot.bars(values, "codes")
    (axes,) = picture.axes
    said = [t.get_text() for t in axes.texts]
    assert said == ["2400", "1000", "0.0123", "86.1"]
