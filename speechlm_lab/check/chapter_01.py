"""Checkers of chapter 01: sampling, quantising, spectrograms, phase, context."""

from collections.abc import Callable

import librosa
import numpy as np
import scipy.signal
import torch

from speechlm_lab.check.core import Wrong, as_array, checker, equal, require

__all__ = [
    "alias",
    "better_phase",
    "quantize_with_zero",
    "seconds_in_context",
    "spectrogram",
]


@checker
def alias(learner: Callable) -> str:
    """Reference: the strongest bin of the spectrum of the samples themselves."""
    cases = [(440, 16_000), (5000, 8000), (7000, 8000), (9000, 8000), (13_000, 8000)]
    heard = []
    for frequency, rate in cases:
        samples = np.cos(2 * np.pi * frequency * np.arange(rate) / rate)  # one second
        heard.append(np.abs(np.fft.rfft(samples)).argmax())  # a bin is 1 Hz wide
    said = [
        float(as_array(learner(f, rate), f"alias({f}, {rate})")) for f, rate in cases
    ]
    _equal_numbers(
        "alias", cases, said, heard,
        {
            "unchanged": (
                [f for f, _ in cases],
                "You return the frequency itself. Above half the sample rate, other "
                "tones have the same samples.",
            ),
            "clipped": (
                [min(f, rate / 2) for f, rate in cases],
                "You cut off at half the sample rate. A tone above it does not move "
                "to the edge: it turns round there and comes down again.",
            ),
            "no mirror": (
                [f % rate for f, rate in cases],
                "You take off whole sample rates, which is right, but a rest above "
                "half the sample rate is heard at sample_rate - rest.",
            ),
            "one turn only": (
                [abs(rate - f) if f > rate / 2 else f for f, rate in cases],
                "Right up to one and a half times the sample rate. Beyond that, take "
                "off whole sample rates first: try 13,000 Hz at 8,000.",
            ),
        },
    )  # fmt: skip
    return "A tone is heard at its distance from the nearest multiple of the rate."


def _equal_numbers(
    name: str,
    cases: list[tuple],
    said: list[float],
    right: list[float],
    mistakes: dict[str, tuple[list[float], str]],
) -> None:
    """`equal`, but an unknown mistake is told by the first case that shows it."""
    try:
        equal(said, right, name, mistakes)
    except Wrong as wrong:
        if wrong.mistake:
            raise
        for case, a, b in zip(cases, said, right, strict=True):
            require(
                bool(np.isclose(a, b)), f"{name}{case} gives {a:.5g}; {b:.5g} is right."
            )
        raise


@checker
def quantize_with_zero(learner: Callable) -> str:
    """Reference: the nearest of the levels, found by comparing with each of them."""
    full = np.append(np.linspace(-1, 1, 302), 1e-3)  # none midway between levels
    for bits, x in ((4, full), (2, full), (4, 0.6 * full)):
        n = 2 ** (bits - 1) - 1
        right = _nearest(x, np.arange(-n, n + 1) / n)
        result = learner(torch.tensor(x, dtype=torch.float32), bits)
        got = as_array(result, f"quantize_with_zero(x, bits={bits})")
        try:
            equal(
                got, right, f"quantize_with_zero(x, bits={bits})",
                {
                    "no level at zero": (
                        _nearest(x, np.linspace(-1, 1, 2**bits)),
                        "Your levels run evenly from -1 to 1, but none of them is 0: "
                        "an even number of levels has no middle one. Use one fewer.",
                    ),
                    "cut, not rounded": (
                        np.trunc(x.astype(np.float32) * n) / n,
                        "You cut the fraction off, which is up to a whole step of "
                        "error. Go to the nearest level: round.",
                    ),
                    "codes": (
                        right * n,
                        "These are codes, from -n to n. Return the samples that they "
                        "stand for: divide by n again.",
                    ),
                },
                tolerance=1e-5,
            )  # fmt: skip
        except Wrong as wrong:
            if wrong.mistake or got.shape != x.shape:
                raise
            levels = len(np.unique(got.round(5)))
            require(
                levels <= 2**bits,
                f"You have {levels} levels, and {bits} bits can number only "
                f"{2**bits}: take {n} above 0 and {n} below.",
                "too many levels",
            )
            i = np.abs(got - right).argmax()
            raise Wrong(
                f"With {bits} bits the sample {x[i]:.3f} became {got[i]:.3f}; the "
                f"nearest level is {right[i]:.3f}."
            ) from None
    return "Silence stays silent, and no sample is off by more than half a step."


def _nearest(x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return levels[np.abs(x[:, None] - levels).argmin(axis=1)]


@checker
def spectrogram(learner: Callable) -> str:
    """Reference: numpy's transform of frames under scipy's window, in a loop."""
    x = np.random.default_rng(0).uniform(-1, 1, 152)  # 32 + 15 * 8: all used
    for n_fft, hop in ((32, 8), (24, 10)):
        result = learner(torch.tensor(x, dtype=torch.float32), n_fft, hop)
        right = _spectrogram(x, scipy.signal.get_window("hann", n_fft), hop)
        symmetric = scipy.signal.get_window("hann", n_fft, fftbins=False)
        padded = np.pad(x, n_fft // 2)
        got = as_array(result, "your spectrogram")
        require(
            got.dtype.kind != "c",
            "These are complex numbers. Return magnitudes: take abs() of them.",
            "complex",
        )
        require(
            got.ndim != 2 or got.shape[0] != n_fft,
            f"There are {n_fft} rows, and the upper half mirrors the lower one. Use "
            "torch.fft.rfft, which leaves the mirror out.",
            "mirrored half",
        )
        equal(
            got, right, f"spectrogram(x, n_fft={n_fft}, hop={hop}) of 152 samples",
            {
                "no window": (
                    _spectrogram(x, np.ones(n_fft), hop),
                    "The frames are cut out without a window: multiply each by "
                    "torch.hann_window(n_fft).",
                ),
                "symmetric window": (
                    _spectrogram(x, symmetric, hop),
                    "Nearly: your window is the symmetric one. Use the periodic one, "
                    "as torch.hann_window(n_fft) gives it.",
                ),
                "power": (
                    right**2,
                    "These are squared magnitudes, the power. Leave out the square.",
                ),
                "last frame missing": (
                    right[:, :-1],
                    "The last frame is missing: there are 1 + (T - n_fft) // hop, and "
                    "one that ends exactly where the wave ends still counts.",
                ),
                "time first": (
                    right.T,
                    "Time runs down instead of to the right: transpose, so that the "
                    "shape is [bins, F].",
                ),
                "padded": (
                    _spectrogram(padded, scipy.signal.get_window("hann", n_fft), hop),
                    "You put zeros around the wave. Here frame 0 begins at sample 0.",
                ),
            },
        )  # fmt: skip
    return "The same as numpy and scipy, frame by frame."


def _spectrogram(x: np.ndarray, window: np.ndarray, hop: int) -> np.ndarray:
    starts = range(0, len(x) - len(window) + 1, hop)
    frames = [np.fft.rfft(x[s : s + len(window)] * window) for s in starts]
    return np.abs(np.array(frames)).T


@checker
def better_phase(learner: Callable) -> str:
    """Reference: librosa's inverse and forward transform."""
    rng = np.random.default_rng(0)
    hop, n_fft, count = 16, 64, 20
    magnitude = rng.uniform(0.5, 1, (n_fft // 2 + 1, count))
    phase = rng.uniform(-np.pi, np.pi, magnitude.shape)

    def step(spectrum: np.ndarray) -> np.ndarray:
        wave = librosa.istft(spectrum, hop_length=hop)
        return librosa.stft(wave, n_fft=n_fft, hop_length=hop, pad_mode="constant")

    after = step(magnitude * np.exp(1j * phase))
    result = as_array(
        learner(
            torch.tensor(magnitude, dtype=torch.float32),
            torch.tensor(phase, dtype=torch.float32),
            hop,
        ),
        "your phase",
    )
    if result.shape == after.shape and result.dtype.kind == "c":
        close = np.allclose(result, after, atol=1e-2)
        require(
            not close,
            "You return the whole new spectrum, its magnitude included. Only its "
            "angle() is asked for.",
            "magnitude kept",
        )
        require(False, "These are complex numbers; return angles in radians.")
    require(
        result.shape == after.shape,
        f"Your phase has the shape {list(result.shape)}; it should be "
        f"{list(after.shape)}. Do istft and stft know hop, and stft also n_fft?",
        "shape",
    )
    # angles are compared as points, since -pi and pi are the same; where the new
    # magnitude is near 0 the angle is chance, so it is the weight
    weight = np.abs(after)
    points = weight * np.exp(1j * result)
    try:
        equal(
            points, after, "the new phase",
            {
                "phase unchanged": (
                    weight * np.exp(1j * phase),
                    "This is the phase that was given. Go back to a wave and forth "
                    "again.",
                ),
                "magnitude returned": (
                    weight * np.exp(1j * weight),
                    "This is the new magnitude. Keep the new phase: angle() instead "
                    "of abs().",
                ),
                "magnitude forgotten": (
                    weight * np.exp(1j * np.angle(step(np.exp(1j * phase)))),
                    "The given magnitude was not used: combine it with the phase "
                    "before going back to a wave, torch.polar(magnitude, phase).",
                ),
                "not complex": (
                    weight * np.exp(1j * np.angle(step(magnitude * phase))),
                    "A magnitude times an angle is no complex number: combine them "
                    "with torch.polar(magnitude, phase).",
                ),
                "sign turned": (
                    weight * np.exp(-1j * np.angle(after)),
                    "The sign of the angle is turned: use angle() as it is.",
                ),
            },
            tolerance=1e-2,
        )  # fmt: skip
    except Wrong as wrong:
        if wrong.mistake:
            raise
        k, f = np.unravel_index(np.abs(points - after).argmax(), after.shape)
        raise Wrong(
            f"In bin {k} of frame {f} your angle is {result[k, f]:.2f}; "
            f"{np.angle(after[k, f]):.2f} is right."
        ) from None
    return "One step of Griffin-Lim, the same as with librosa."


@checker
def seconds_in_context(learner: Callable) -> str:
    """Reference: the arithmetic, on cases where every mistake shows."""
    cases = [(2048, 16_000, 256, 1), (2048, 16_000, 320, 8), (4096, 24_000, 1920, 4)]
    said = [
        float(as_array(learner(*case), f"seconds_in_context{case}")) for case in cases
    ]
    _equal_numbers(
        "seconds_in_context", cases,
        said, [c / (rate / hop * K) for c, rate, hop, K in cases],
        {
            "hop forgotten": (
                [c / (rate * K) for c, rate, hop, K in cases],
                "You count samples. One frame stands for hop samples.",
            ),
            "K forgotten": (
                [c * hop / rate for c, rate, hop, K in cases],
                "You count one symbol a frame, but each frame takes K of them.",
            ),
            "K multiplied": (
                [c * hop * K / rate for c, rate, hop, K in cases],
                "More symbols a frame should fill the context sooner: divide by K.",
            ),
            "upside down": (
                [rate / hop * K / c for c, rate, hop, K in cases],
                "This is upside down: symbols a second over context. Turn it round.",
            ),
        },
    )  # fmt: skip
    return "Frame rate times K symbols a second; the context divided by that."
