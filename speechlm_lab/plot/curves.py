"""What models do: curves, points, bars, attention maps. Used through `plot`."""

from collections.abc import Mapping, Sequence

import matplotlib
import torch
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike

from speechlm_lab.plot.picture import (
    DASHES,
    MARKERS,
    PALETTE,
    STYLE,
    Picture,
    PlotError,
    about,
    array,
    draw_title,
)


@matplotlib.rc_context(STYLE)
def lines(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    xlabel: str,
    ylabel: str,
    *,
    logx: bool = False,
    title: str = "",
    alt: str = "",
) -> Picture:
    """One line through the points (x, y) of each curve: losses, scores, sizes.

    xlabel, ylabel: quantity and unit, "step" or "loss (nat)". Points are marked
    where there are at most 30. Raises PlotError for no curve, or NaN.
    """
    if not curves:
        raise PlotError("there is no curve to draw: {name: [(x, y), ...]}")
    picture = Picture(3.0, alt or "-")
    (axes,) = picture.axes
    said = []
    colours = list(PALETTE.values())
    for i, (name, points) in enumerate(curves.items()):
        xy = array(sorted(points), 2, f"the curve {name!r} is a list of (x, y)")
        said.append(
            f"{name} from {xy[0, 1]:.3g} at {xy[0, 0]:g} to {xy[-1, 1]:.3g} at "
            f"{xy[-1, 0]:g}"
        )
        axes.plot(
            *xy.T, label=name, color=colours[i % 7], linestyle=DASHES[i % 7],
            marker=MARKERS[i % 7] if len(xy) <= 30 else "", markersize=5,
        )  # fmt: skip
    if logx:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(color="0.9")
    if len(curves) > 1:
        axes.legend(fontsize=8.5)
    draw_title(axes, title)
    if not alt:
        picture.alt = f"{title or ylabel} against {xlabel}: {'; '.join(said)}."
    return picture


@matplotlib.rc_context(STYLE)
def scatter(
    groups: Mapping[str, ArrayLike | torch.Tensor],
    xlabel: str,
    ylabel: str,
    *,
    title: str = "",
    alt: str = "",
) -> Picture:
    """A point for each (x, y), a colour and a marker for each group: what lies where.

    groups: name -> points [N, 2]; xlabel, ylabel: quantity and unit. Many points are
    drawn small and let others through. Raises PlotError for no group, or NaN.
    """
    if not groups:
        raise PlotError("there is no group to draw: {name: points [N, 2]}")
    points = {
        name: array(xy, 2, f"the group {name!r} holds points [N, 2]")
        for name, xy in groups.items()
    }
    for name, xy in points.items():
        if xy.shape[1] != 2:
            raise PlotError(
                f"the group {name!r} holds points [N, 2], not {list(xy.shape)}: give "
                "two columns, x and y"
            )
    picture = Picture(3.6, alt or "-")
    (axes,) = picture.axes
    many = sum(len(xy) for xy in points.values()) > 300
    said = []
    colours = list(PALETTE.values())
    for i, (name, xy) in enumerate(points.items()):
        x, y = xy.mean(0)
        count = f"{len(xy)} point{'s' if len(xy) > 1 else ''}"
        said.append(f"{name}, {count} around ({x:.3g}, {y:.3g})")
        axes.plot(
            *xy.T, label=name, linestyle="", marker=MARKERS[i % 7],
            color=colours[i % 7], markersize=3 if many else 5,
            alpha=0.5 if many else 1, markeredgewidth=0,
        )  # fmt: skip
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(color="0.9")
    if len(points) > 1:
        axes.legend(fontsize=8.5)
    draw_title(axes, title)
    if not alt:
        picture.alt = f"{title or ylabel} against {xlabel}: {'; '.join(said)}."
    return picture


def rate_quality(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    quality: str,
    *,
    title: str = "",
    alt: str = "",
) -> Picture:
    """Quality against bit rate, one line a codec.

    curves: name -> points (bitrate in bit/s, quality); quality: the measure with
    its unit and its better end, "PESQ (higher is better)". Rates are drawn in kbit/s
    on a logarithmic axis, where each doubling is the same step.
    """
    kilo = {
        name: [(rate / 1000, score) for rate, score in points]
        for name, points in curves.items()
    }
    return lines(kilo, "bit rate (kbit/s)", quality, logx=True, title=title, alt=alt)


@matplotlib.rc_context(STYLE)
def bars(
    values: Mapping[str, float],
    xlabel: str,
    *,
    errors: Mapping[str, float] | None = None,
    title: str = "",
    alt: str = "",
) -> Picture:
    """A horizontal bar for each name, its value written beside it.

    xlabel: quantity and unit; errors: half-width of the interval of each name.
    """
    if not values:
        raise PlotError("there is no bar to draw: {name: value}")
    length = array(list(values.values()), 1, "a bar needs one number")
    numbers = [_plainly(value) for value in values.values()]
    said = "; ".join(map(" ".join, zip(values, numbers, strict=True)))
    picture = Picture(
        0.8 + 0.3 * len(values), alt or f"Bars, {title or xlabel}: {said}."
    )
    (axes,) = picture.axes
    widths = [errors.get(name, 0) for name in values] if errors else None
    drawn = axes.barh(list(values), length, xerr=widths, color=PALETTE["sky"])
    axes.bar_label(drawn, numbers, padding=3)
    axes.invert_yaxis()
    # a number to the left of its bar must not reach the names
    axes.margins(x=0.25 if length.min() < 0 else 0.12)
    axes.set(xlabel=xlabel)
    draw_title(axes, title)
    return picture


def _plainly(value: float) -> str:
    """A number with three digits, or all before the point: no power of ten."""
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


@matplotlib.rc_context(STYLE)
def attention(
    weights: ArrayLike | torch.Tensor,
    *,
    queries: Sequence[str] = (),
    keys: Sequence[str] = (),
    xlabel: str = "key (position)",
    ylabel: str = "query (position)",
    title: str = "",
    alt: str = "",
) -> Picture:
    """Attention weights: a row for each query, a column for each key.

    weights: [queries, keys], in [0, 1]; queries, keys: names of the positions;
    xlabel, ylabel: what the positions are, with their unit, for example "text
    (character)" and "speech (frame)".
    """
    table = array(weights, 2, "attention() draws one head [queries, keys]")
    for names, count in ((queries, table.shape[0]), (keys, table.shape[1])):
        if names and len(names) != count:
            raise PlotError(f"{len(names)} names for {count} positions: give one each")
    share = table.max(1).mean()
    alt = alt or (
        f"Attention{about(title)}: {table.shape[0]} queries over {table.shape[1]} "
        f"keys; the strongest key of a query has {share:.0%} of its weight on average."
    )
    picture = Picture(3.4, alt)
    (axes,) = picture.axes
    image = axes.imshow(
        table, aspect="auto", cmap="viridis", vmin=0, interpolation="nearest"
    )
    if keys:
        axes.set_xticks(range(len(keys)), keys, parse_math=False)
    if queries:
        axes.set_yticks(range(len(queries)), queries, parse_math=False)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    picture.colorbar(image, pad=0.01).set_label("weight")
    draw_title(axes, title)
    return picture
