"""Pictures that say in words what they show: one style, alt text, small files.

A `Picture` is a matplotlib `Figure` (change it as you like:
``picture.axes[0].axvline(0.3)``) that carries alt text. In a notebook and on the
built page it shows as ``<img alt="...">``. Pictures never enter pyplot, so none is
shown twice and none stays in memory.

Colours of lines are the palette of Okabe and Ito (2008), "Color Universal
Design", https://jfly.uni-koeln.de/color/, without its yellow, which is too faint
on white. Lines differ in marker and dash too. Images use perceptually uniform
maps that survive colour blindness and grey print: magma for spectrograms, cividis
(Nuñez, Anderton and Renslow 2018) for codes, viridis for attention.
"""

import base64
import html
import io

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

from speechlm_lab.assets import framed

PALETTE = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
}
MARKERS = "osD^vPX"
DASHES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)), (0, (8, 3)), (0, (3, 3)))
WIDTH = 6.2  # inch, about 600 pixels on the page
DPI = 176  # 1.8 pixels of the picture a pixel of the page: sharp, yet small
STYLE = {
    "axes.grid": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib and has the IPA
    "font.size": 10,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
}


class PlotError(ValueError):
    """What was given cannot be drawn; the message names the remedy."""


class Picture(Figure):
    """A matplotlib figure with alt text. Background white, so that it reads in
    light and in dark mode.

    alt: what the picture shows, in words; never empty.
    """

    def __init__(self, height: float, alt: str, rows: int = 1, columns: int = 1):
        """height: inch; alt: see above; rows, columns: panels with shared axes."""
        with matplotlib.rc_context(STYLE):
            super().__init__((WIDTH, height), DPI, layout="constrained")
            FigureCanvasAgg(self)
            self.subplots(rows, columns, sharex=True, sharey=True)
        if not alt.strip():
            raise PlotError("a picture needs alt text: say in words what it shows")
        self.alt = " ".join(alt.split())

    def png(self) -> bytes:
        """The picture as a PNG of 256 colours, each within 2 of 255 of the true one."""
        with matplotlib.rc_context(STYLE):
            self.canvas.draw()
        pixels = Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB")
        out = io.BytesIO()
        few = pixels.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(out, "png", optimize=True, dpi=(self.dpi, self.dpi))
        return out.getvalue()

    @property
    def body(self) -> str:
        """``<img>`` with the picture inside it and `alt` as its alternative text."""
        return self._img(self.png())

    def _img(self, png: bytes) -> str:
        width = round(self.get_figwidth() * 96)  # CSS pixels: 96 an inch
        return (
            f'<img class="slm-picture" alt="{html.escape(self.alt)}" '
            f'style="width:{width}px" src="data:image/png;base64,'
            f'{base64.b64encode(png).decode()}">'
        )

    def _repr_html_(self) -> str:
        return framed(self.body, "picture.css")

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        # HTML is what pages and JupyterLab prefer; the bare PNG is for the rest
        # (PDF, editors). Being in the bundle, it also keeps IPython's own
        # formatter from drawing the figure a second time.
        png = self.png()
        return {
            "text/html": framed(self._img(png), "picture.css"),
            "image/png": base64.b64encode(png).decode(),
            "text/plain": f"<Picture: {self.alt}>",
        }


def array(values: ArrayLike | torch.Tensor, dims: int, what: str) -> np.ndarray:
    """float64 array of `dims` dimensions; leading ones of length 1 are dropped."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float()
    array = np.asarray(values, dtype=np.float64)
    while array.ndim > dims and array.shape[0] == 1:
        array = array[0]
    if array.ndim != dims or array.size == 0:
        raise PlotError(f"{what}, but the shape is {list(array.shape)}: pick one item")
    if not np.isfinite(array).all():
        raise PlotError(f"{what}, but it holds NaN or infinity: look where they start")
    return array


def draw_title(axes: Axes, title: str, pad: float = 6) -> None:
    """Set the title, `pad` points above the axes; dollar signs stay what they are.

    In a chapter too, where the style of the book does not hold by itself.
    """
    if title:
        axes.set_title(
            title, pad=pad, parse_math=False, loc=STYLE["axes.titlelocation"],
            fontsize=STYLE["axes.titlesize"],
        )  # fmt: skip


def about(title: str) -> str:
    """The words " of <title>", or nothing without one."""
    return f" of {title}" if title else ""
