"""What every exercise checker is made of.

A checker is a function of the learner's function, under `@checker`:

    @checker
    def double(learner):
        x = torch.arange(3.0)
        equal(learner(x), 2 * x, "double(x)", {
            "squared": (x**2, "You square x. Double it: 2 * x."),
        })
        return "Doubled, and the shape is kept."

It ends with the words for success, or raises `Wrong`, which `equal` and `require` do.
What it compares with comes from numpy, scipy, librosa or a closed form, never from the
book's own solution. `learner` may be called as the exercise says; whatever happens
in there, a stub included, the checker returns a `Report` and does not raise.
"""

import functools
import html
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from speechlm_lab.assets import framed

MARK = {True: "✓ Right.", False: "✗ Not yet."}


@dataclass(frozen=True)
class Report:
    """What a checker found: shown in words by a notebook.

    passed: the exercise is solved; message: what is right or wrong, in words;
    mistake: short name of a mistake that the checker knows, else None.
    """

    passed: bool
    message: str
    mistake: str | None = None

    def __repr__(self) -> str:
        return f"{MARK[self.passed]} {self.message}"

    def _repr_html_(self) -> str:
        kind = "slm-report" if self.passed else "slm-report slm-wrong"
        body = (
            f'<div role="status" class="{kind}"><strong>{MARK[self.passed]}</strong> '
            f"{html.escape(self.message)}</div>"
        )
        return framed(body, "report.css")


class Wrong(Exception):
    """Raised in a checker: what is wrong, in words, and the mistake's short name."""

    def __init__(self, message: str, mistake: str | None = None):
        super().__init__(message)
        self.mistake = mistake


class _Stub(Exception):
    """The learner's function has no body yet."""


def checker(body: Callable[[Callable], str]) -> Callable[[Callable], Report]:
    """Make a checker of a function that raises `Wrong` or returns words of praise."""

    @functools.wraps(body)
    def check(learner: Callable) -> Report:
        if not callable(learner):
            kind = type(learner).__name__
            message = f"Give the function itself, without brackets, not its {kind}."
            return Report(False, message)
        try:
            return Report(True, body(_guarded(learner)))
        except _Stub:
            name = getattr(learner, "__name__", "your function")
            message = f"{name} returns nothing yet: write its body, and end in return."
            return Report(False, message)
        except Wrong as wrong:
            return Report(False, str(wrong), wrong.mistake)
        except Exception as error:  # what came back broke the checker
            message = f"What your function returned cannot be checked: {error}"
            return Report(False, message)

    return check


def _guarded(learner: Callable) -> Callable:
    """The learner's function: own copies go in, a stub or an error comes out as an
    exception that `checker` turns into words."""
    answered = False  # at least once

    def call(*args, **options):
        nonlocal answered
        try:
            own = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
            result = learner(*own, **options)
        except NotImplementedError:
            raise _Stub from None
        except (Exception, SystemExit) as error:
            if "ellipsis" in str(error):  # a `...` that was never filled in
                raise _Stub from None
            raise Wrong(_what_happened(learner, error, args)) from error
        require(
            result is not None or not answered,
            "For some input your function returns nothing: one way through it has no "
            "return.",
            "no return",
        )
        if result is None or result is ...:
            raise _Stub
        answered = True
        for given, after in zip(args, own, strict=True):
            require(
                not isinstance(given, torch.Tensor) or torch.equal(given, after),
                "You change what you were given, and whoever calls your function has "
                "lost it. Begin with a copy: x = x.clone().",
                "changed in place",
            )
        return result

    return call


def _what_happened(learner: Callable, error: BaseException, args: tuple) -> str:
    """The error, what was given, and the learner's own line that led to it."""
    file = getattr(getattr(learner, "__code__", None), "co_filename", None)
    given = ", ".join(_told(value) for value in args)
    said = f"Your function stopped with {type(error).__name__}: {error}"
    said = f"{said}\n(it was given {given})" if given else said
    lines = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == file
    ]
    return f"{said}\nin the line  {lines[-1].line}" if lines else said


def _told(value: object) -> str:
    """A short name for what a function was given: a shape, a number, a kind."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"a tensor {list(value.shape)}"
    said = repr(value)
    return said if len(said) <= 40 else f"a {type(value).__name__}"


def require(condition: bool, message: str, mistake: str | None = None) -> None:
    """Raise `Wrong` unless the condition holds."""
    if not condition:
        raise Wrong(message, mistake)


def whole_numbers(codes: object) -> None:
    """Raise `Wrong` for codes that came back as floats."""
    require(
        not (isinstance(codes, torch.Tensor) and codes.is_floating_point()),
        "Codes are whole numbers, and no list or embedding takes others: keep the type "
        "that you were given.",
        "no whole numbers",
    )


def as_array(result: object, what: str) -> np.ndarray:
    """What a learner returned, as numpy numbers. `what` names it in messages."""
    try:
        if isinstance(result, torch.Tensor):
            result = result.detach().cpu().numpy()
        array = np.asarray(result)
        if array.dtype.kind in "US":  # "0.5" would do as a number
            raise TypeError
        array = array if array.dtype.kind == "c" else array.astype(np.float64)
    except (TypeError, ValueError):
        kind = type(result).__name__
        raise Wrong(f"{what} is a {kind}; return a tensor or a number.") from None
    require(bool(np.isfinite(array).all()), f"{what} holds NaN or infinity.")
    return array


def equal(
    result: object,
    expected: ArrayLike,
    what: str,
    mistakes: Mapping[str, tuple[ArrayLike, str]] | None = None,
    tolerance: float = 1e-4,
) -> None:
    """Raise `Wrong` unless a result has the expected shape and values.

    what: names the result in messages, "stft(x)"; mistakes: short name -> (the values
    that this mistake leads to, what to say); tolerance: on the largest difference,
    relative to the largest expected value.
    """
    got, want = as_array(result, what), as_array(expected, "the reference")
    for name, (values, message) in (mistakes or {}).items():
        values = as_array(values, name)
        if _close(got, values, tolerance) and not _close(values, want, tolerance):
            raise Wrong(message, name)
    hint = _what_they_share(got, want, tolerance)
    require(
        got.shape == want.shape,
        f"{what} has the shape {list(got.shape)}; it should be {list(want.shape)}."
        f"{hint}",
    )
    if not _close(got, want, tolerance):
        place = np.unravel_index(np.abs(got - want).argmax(), want.shape)
        where = f", most at {[int(i) for i in place]}" if place else ""
        raise Wrong(
            f"{what} differs from the reference{where}: "
            f"{got[place]:.4g}, where {want[place]:.4g} is right.{hint}"
        )


def equal_rows(
    got: object, right: np.ndarray, what: str,
    mistakes: dict[str, tuple[np.ndarray, str]], name: Callable[[int], str],
) -> None:  # fmt: skip
    """`equal`, but an unknown mistake is told by the first row that shows it.

    name: what to call row i in the message, "Latent 3".
    """
    try:
        equal(got, right, what, mistakes)
    except Wrong as wrong:
        got = as_array(got, what)
        if wrong.mistake or got.shape != right.shape:
            raise
        far = np.abs(got - right) > 1e-4 * np.abs(right).max()
        row = int(far.reshape(len(right), -1).any(1).argmax())
        got = got.astype(int) if right.dtype.kind == "i" else got.round(3)
        shown = [values[row].tolist() for values in (got, right.round(3))]
        raise Wrong(f"{name(row)} gives {shown[0]}; {shown[1]} is right.") from None


def _what_they_share(got: np.ndarray, want: np.ndarray, tolerance: float) -> str:
    """How a wrong result becomes the right one, in words; "" where nobody knows."""
    if np.unique(want).size < 3:  # of so little everything can be said
        return ""
    if got.ndim == 2 and _close(got.T, want, tolerance):
        return " The numbers are right, but rows and columns are swapped."
    if got.shape != want.shape:
        return ""
    factor = np.vdot(want, got).real / np.vdot(want, want).real
    if abs(factor) > tolerance and _close(got, factor * want, tolerance):
        times = f"{factor:.4g}"
        if times == "1":
            return " Nearly right: keep the precision of float32."
        return f" Every number is {times} times the right one."
    offset = (got - want).mean()
    if _close(got, want + offset, tolerance):
        return f" Every number is the right one {offset.real:+.4g}."
    for axis, size in enumerate(want.shape):
        if _close(np.flip(got, axis), want, tolerance):
            return f" The numbers are right, but in reverse (axis {axis})."
        if size > 2:
            front, back = range(size - 1), range(1, size)
            for here, there, when in ((back, front, "late"), (front, back, "early")):
                if _close(got.take(here, axis), want.take(there, axis), tolerance):
                    return f" The numbers come a place too {when} (axis {axis})."
    return ""


def _close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    scale = max(1e-12, float(np.abs(b).max(initial=0)))
    return a.shape == b.shape and bool((np.abs(a - b) <= tolerance * scale).all())
