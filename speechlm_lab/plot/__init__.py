"""Looking: waveforms, spectrograms, codes, attention and curves in one style.

Every function returns a `Picture`, a matplotlib figure with alt text. The text is
made from the data; `title` says what is drawn, `alt` replaces the text. Axes carry
units. See `speechlm_lab.plot.picture` for the style and its sources.
"""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from speechlm_lab import spectral
from speechlm_lab.audio import SAMPLE_RATE
from speechlm_lab.corpus.items import Span
from speechlm_lab.plot.curves import attention, bars, lines, rate_quality, scatter
from speechlm_lab.plot.picture import (
    PALETTE,
    STYLE,
    Picture,
    PlotError,
    about,
    array,
    draw_title,
)

__all__ = [
    "LIMITS",
    "attention",
    "bars",
    "codes",
    "compare",
    "lines",
    "rate_quality",
    "scatter",
    "spectrogram",
    "waveform",
]

# dB of the darkest and the brightest colour, the same for every spectrogram of a
# scale, so that pictures can be compared; the units are those of `spectral`
LIMITS = {"mel": (-70.0, 10.0), "linear": (-40.0, 40.0)}


def _spans_in_words(spans: Iterable[Span]) -> str:
    said = ", ".join(f"{s.label} {s.start:.2f}–{s.end:.2f} s" for s in spans)
    return f" Marked: {said}." if said else ""


def _draw_spans(axes: Axes, spans: Iterable[Span], title: str) -> None:
    """A line at each beginning and end, labels above the axes, the title above them.

    A label that would print over its neighbour moves up a row, twice at most; where
    no row has room it is left out. None hangs over the sides of the axes.
    """
    left, right = axes.get_xlim()
    inch = (right - left) / 4.7  # s; no axes are narrower
    free = [left] * 3  # s, where each row is free again
    rows = 0
    for span in spans:
        for edge in (span.start, span.end):
            axes.axvline(edge, color="0.45", linewidth=0.7)
            axes.axvline(edge, color="white", linewidth=0.7, linestyle=(0, (3, 3)))
        label = axes.annotate(
            span.label, (0, 1), xycoords=("data", "axes fraction"),
            xytext=(0, 0), textcoords="offset points", ha="center",
            fontsize=8.5, parse_math=False,
        )  # fmt: skip
        half = inch * label.get_window_extent().width / axes.figure.dpi / 2
        middle = (span.start + span.end) / 2
        middle = max(left + half, min(right - half, middle))
        fits = [i for i, end in enumerate(free) if end <= middle - half]
        if not fits:
            label.remove()
            continue
        row = fits[0]
        free[row] = middle + half + 0.04 * inch
        rows = max(rows, row + 1)
        label.xy, label.xyann = (middle, 1), (0, 2 + 12 * row)
    draw_title(axes, title, pad=6 + 12 * rows)
    figure = axes.figure
    figure.set_figheight(figure.get_figheight() + 12 * max(rows - 1, 0) / 72)


@matplotlib.rc_context(STYLE)
def waveform(
    wave: ArrayLike | torch.Tensor,
    sample_rate: int = SAMPLE_RATE,
    *,
    spans: Sequence[Span] = (),
    title: str = "",
    alt: str = "",
) -> Picture:
    """Amplitude against time.

    wave: [T] (or [1, T]), in [-1, 1]; sample_rate: Hz; spans: stretches to mark,
    in seconds; title: what is heard; alt: replaces the description made from the
    data. Few samples are drawn as dots, many as the band between the lowest and
    the highest one under each pixel. Raises PlotError for another shape or NaN.
    """
    x = array(wave, 1, "waveform() draws one wave [T]")
    peak = np.abs(x).max()
    seconds = len(x) / sample_rate
    alt = alt or (
        f"Waveform{about(title)}: {seconds:.3g} s at {sample_rate} Hz, largest "
        f"amplitude {peak:.2g}.{_spans_in_words(spans)}"
    )
    picture = Picture(1.9, alt)
    (axes,) = picture.axes
    step = len(x) // 2000
    if step < 2:
        style = ".-" if len(x) <= 200 else "-"
        time = np.arange(len(x)) / sample_rate
        axes.plot(time, x, style, color=PALETTE["blue"], linewidth=0.9)
    else:
        rows = np.pad(x, (0, -len(x) % step), "edge").reshape(-1, step)
        time = np.arange(len(rows)) * step / sample_rate
        axes.fill_between(
            time, rows.min(1), rows.max(1), color=PALETTE["blue"], linewidth=0.4
        )
    limit = max(1.1 * peak, 1e-3)
    axes.set(ylabel="amplitude", xlim=(0, seconds), ylim=(-limit, limit))
    if seconds < 0.05:
        axes.xaxis.set_major_formatter(lambda x, _: f"{1000 * x:g}")
    axes.set_xlabel("time (ms)" if seconds < 0.05 else "time (s)")
    _draw_spans(axes, spans, title)
    return picture


def _levels(
    x: ArrayLike | torch.Tensor, scale: str, sample_rate: int, n_fft: int, hop: int
) -> tuple[np.ndarray, np.ndarray]:
    """Levels [bins, F] in dB and the centre frequency [bins] of each bin in Hz."""
    if scale not in LIMITS:
        raise PlotError(f'scale is "mel" or "linear", not {scale!r}')
    if np.ndim(x) >= 2 and np.shape(x)[-2] > 1:  # levels already
        level = array(x, 2, "a spectrogram is drawn of a wave [T] or levels [bins, F]")
    else:
        wave = torch.from_numpy(array(x, 1, "a spectrogram is drawn of one wave [T]"))
        wave = wave.float()
        if scale == "mel":
            level = spectral.log_mel(
                wave, sample_rate=sample_rate, n_fft=n_fft, hop=hop
            ).numpy()
        else:
            level = spectral.to_db(spectral.stft(wave, n_fft, hop).abs()).numpy()
    if scale == "mel":
        mels = np.linspace(
            0, float(spectral.hz_to_mel(sample_rate / 2)), len(level) + 2
        )
        return level, spectral.mel_to_hz(torch.from_numpy(mels[1:-1])).numpy()
    return level, np.linspace(0, sample_rate / 2, len(level))


def _draw_levels(
    axes: Axes,
    level: np.ndarray,
    frequencies: np.ndarray,
    step: float,
    limits: tuple[float, float],
):
    """Levels [bins, F] as an image with ticks in kHz; frames are `step` s apart."""
    bins, frames = level.shape
    times = (-0.5 * step, (frames - 0.5) * step)  # frame f is centred on f * step
    image = axes.imshow(
        level, aspect="auto", origin="lower", cmap="magma",
        vmin=limits[0], vmax=limits[1], extent=(*times, -0.5, bins - 0.5),
        interpolation="nearest",
    )  # fmt: skip
    top = frequencies[-1] / 1000
    khz = [k for k in (0, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20) if k <= top]
    where = np.interp(np.multiply(khz, 1000), frequencies, np.arange(bins))
    shown = []  # leave out what would print over its neighbour
    for k, y in zip(khz, where, strict=True):
        if not shown or y - shown[-1][1] > bins / 9:
            shown.append((k, y))
    axes.set_yticks([y for _, y in shown], [f"{k:g}" for k, _ in shown])
    return image


@matplotlib.rc_context(STYLE)
def spectrogram(
    x: ArrayLike | torch.Tensor,
    sample_rate: int = SAMPLE_RATE,
    *,
    scale: str = "mel",
    n_fft: int = 1024,
    hop: int = 256,
    spans: Sequence[Span] = (),
    limits: tuple[float, float] | None = None,
    title: str = "",
    alt: str = "",
) -> Picture:
    """Level in colour, frequency upwards, time to the right.

    x: a wave [T], drawn as `spectral.log_mel` (80 bands) or the STFT in dB; or levels
    [bins, F] in dB that you computed; sample_rate: Hz; scale: "mel" or "linear", of
    levels too; n_fft, hop: samples; spans: words, phones or events to mark, in
    seconds; limits: dB of the darkest and the brightest colour, LIMITS by default.
    Raises PlotError for another shape or scale, or NaN.
    """
    picture = compare(
        {title: x}, sample_rate, scale=scale, n_fft=n_fft, hop=hop, limits=limits,
        alt=alt, height=2.7,
    )  # fmt: skip
    if spans:
        _draw_spans(picture.axes[0], spans, title)
        if not alt:
            picture.alt += _spans_in_words(spans)
    return picture


@matplotlib.rc_context(STYLE)
def compare(
    sounds: Mapping[str, ArrayLike | torch.Tensor],
    sample_rate: int = SAMPLE_RATE,
    *,
    scale: str = "mel",
    n_fft: int = 1024,
    hop: int = 256,
    limits: tuple[float, float] | None = None,
    alt: str = "",
    height: float = 1.75,
) -> Picture:
    """Spectrograms one below another, with the same axes and the same colours.

    sounds: title -> a wave [T] or levels [bins, F] in dB; height: inch a panel;
    the rest as in `spectrogram`.
    """
    if not sounds:
        raise PlotError("compare() needs at least one sound: {title: wave}")
    levels = {
        title: _levels(x, scale, sample_rate, n_fft, hop) for title, x in sounds.items()
    }
    if len({len(level) for level, _ in levels.values()}) > 1:
        raise PlotError("compare() needs levels with the same number of bins")
    limits = limits or LIMITS[scale]
    step = hop / sample_rate  # s
    said = []
    for title, (level, frequencies) in levels.items():
        bin_, frame = np.unravel_index(level.argmax(), level.shape)
        said.append(
            f"{'Mel s' if scale == 'mel' else 'S'}pectrogram{about(title)}: "
            f"{(level.shape[1] - 1) * step:.3g} s, 0 to {sample_rate / 2000:g} "
            f"kHz, strongest near {frequencies[bin_]:.0f} Hz at "
            f"{frame * step:.2f} s."
        )
    picture = Picture(height * len(levels) + 0.3, alt or " ".join(said), len(levels))
    for axes, (title, (level, frequencies)) in zip(
        picture.axes, levels.items(), strict=True
    ):
        image = _draw_levels(axes, level, frequencies, step, limits)
        draw_title(axes, title)
    longest = max(level.shape[1] for level, _ in levels.values())
    picture.axes[0].set_xlim(0, max(longest - 1, 1) * step)
    picture.axes[-1].set_xlabel("time (s)")
    picture.supylabel("frequency (kHz)", fontsize=STYLE["font.size"])
    bar = picture.colorbar(image, ax=picture.axes, pad=0.01, aspect=12 * len(levels))
    bar.set_label("level (dB)")
    return picture


@matplotlib.rc_context(STYLE)
def codes(
    codes: ArrayLike | torch.Tensor,
    frame_rate: float | None = None,
    *,
    size: int | None = None,
    title: str = "",
    alt: str = "",
) -> Picture:
    """A table of codes, level 1 at the top, coloured by number.

    codes: integers [K, F] (or [1, K, F]), negative ones (padding) stay white;
    frame_rate: Hz, for an axis in seconds instead of frames; size: codebook size V,
    for the range of colours. Small tables show the numbers too. Neighbouring
    numbers need not sound alike: colour only says same or different.
    """
    table = array(codes, 2, "codes() draws one table of codes [K, F]")
    K, F = table.shape
    used = len(np.unique(table[table >= 0]))
    length = f"{F} frames" + (f" ({F / frame_rate:.3g} s)" if frame_rate else "")
    alt = alt or (
        f"Codes{about(title)}: {K} level{'s' * (K > 1)}, {length}, {used} different "
        f"codes{f' out of {size}' if size else ''}."
    )
    picture = Picture(1.1 + 0.24 * K, alt)
    (axes,) = picture.axes
    end = F / frame_rate if frame_rate else F
    image = axes.imshow(
        np.ma.masked_less(table, 0), aspect="auto", cmap="cividis", vmin=0,
        vmax=(size or table.max() + 1) - 1, extent=(0, end, K + 0.5, 0.5),
        interpolation="nearest",
    )  # fmt: skip
    if F <= 24 and not frame_rate:
        half = image.norm.vmax / 2
        for k, f in np.argwhere(table >= 0):
            axes.text(
                f + 0.5, k + 1, f"{table[k, f]:.0f}", ha="center", va="center",
                fontsize=8, color="black" if table[k, f] > half else "white",
            )  # fmt: skip
    axes.set(
        xlabel="time (s)" if frame_rate else "frame", ylabel="level",
        yticks=range(1, K + 1),
    )  # fmt: skip
    picture.colorbar(image, pad=0.01).set_label("code")
    draw_title(axes, title)
    return picture
