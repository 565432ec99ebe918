"""A thin binding to the eSpeak NG speech synthesiser.

eSpeak NG is free software under the GNU General Public License, version 3 or later.
This package holds none of its code and none of its data: the `espeakng-loader` wheel
brings the shared library and its data files, and they are loaded at run time.

Synthesis has hidden state (a noise generator, the phase of a flutter table, a counter
of glottal cycles), so that the same call gives other samples the second time. There
is no call that resets it. We therefore load the library afresh for every utterance,
which takes a fifth of a millisecond, and seed its noise: one call, one result.

A voice is a small text file that the library reads from its data folder. Every
process keeps a private folder with the few data files that English needs and one voice
file, so that processes cannot disturb one another and any number of voices is possible.
"""

import _ctypes
import ctypes
import os
import re
import shutil
import tempfile
import threading
from bisect import bisect_right
from dataclasses import dataclass, replace
from multiprocessing import util
from pathlib import Path

import espeakng_loader
import numpy as np

from .items import Span

NATIVE_RATE = 22_050  # Hz, what the library gives
RATE_RANGE = (80, 450)  # words a minute that the library accepts

_DATA_FILES = ("phontab", "phonindex", "phondata", "intonations", "en_dict")
_LANGUAGE_FILE = "lang/gmw/en-US"
# from espeak-ng/speak_lib.h
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback
_PHONEME_EVENTS_IPA_NO_EXIT = 0x8003
_UTF8, _PHONEME_INPUT = 0x1, 0x100
_IPA = 0x2
_EVENT_END_OF_LIST, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_RATE, _VOLUME, _PITCH, _PITCH_RANGE = 1, 2, 3, 4
_BUFFER_MS = 500
_VOICE_ROOM = 2048  # bytes
_COLOURED = 0.4  # share of a vowel that is taken up by the l in "call"


class EspeakError(RuntimeError):
    """The speech synthesiser could not be set up."""


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # counts characters from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Speech:
    """What the synthesiser said, at NATIVE_RATE.

    wave: float32 array [T] in [-1, 1].
    words, phones: times in seconds; phones are IPA without stress marks.
    """

    wave: np.ndarray
    words: tuple[Span, ...]
    phones: tuple[Span, ...]


_lock = threading.RLock()
_folder: Path | None = None
_voice_start = 0  # bytes of the voice file that come before the voice's own lines


def _forget_parent() -> None:
    """In a forked child: the data folder belongs to the parent."""
    global _lock, _folder
    _lock, _folder = threading.RLock(), None


if hasattr(os, "register_at_fork"):
    # hold the lock while forking, so that no child inherits a half-loaded library
    os.register_at_fork(
        before=lambda: _lock.acquire(),
        after_in_parent=lambda: _lock.release(),
        after_in_child=_forget_parent,
    )


def _data_folder() -> Path:
    """This process's own view of the English data, made at the first use."""
    global _folder, _voice_start
    if _folder is None or not (_folder / "voices").is_dir():
        folder = Path(tempfile.mkdtemp(prefix="tinyvoices-"))
        # not atexit: worker processes do not run it, and forked ones inherit it
        util.Finalize(None, shutil.rmtree, (folder, True), exitpriority=0)
        if len(os.fsencode(folder)) > 140:
            raise EspeakError(
                f"the path of the temporary folder is too long for eSpeak NG "
                f"({folder}); set TMPDIR to a shorter one"
            )
        source = Path(espeakng_loader.get_data_path())
        for name in _DATA_FILES:
            try:  # a link, so that a killed process leaves next to nothing behind
                os.symlink(source / name, folder / name)
            except OSError:  # Windows without the right to make links
                shutil.copyfile(source / name, folder / name)
        (folder / "voices").mkdir()
        # English, then room for the lines of the voice
        language = (source / _LANGUAGE_FILE).read_bytes() + b"\n"
        (folder / "voices" / "voice").write_bytes(language + b"\n" * _VOICE_ROOM)
        _voice_start = len(language)
        _folder = folder
    return _folder


def _write_voice(folder: Path, lines: str) -> None:
    # same length each time: cutting a file short makes some file systems sync it,
    # which takes longer than the synthesis
    data = lines.encode("ascii").ljust(_VOICE_ROOM, b"\n")
    if len(data) > _VOICE_ROOM:
        raise EspeakError(f"the voice is longer than {_VOICE_ROOM} bytes")
    with open(folder / "voices" / "voice", "r+b") as file:
        file.seek(_voice_start)
        file.write(data)


class _Library:
    """The freshly loaded library with one voice; use it in a `with` statement."""

    def __init__(self, voice_lines: str):
        self.voice_lines = voice_lines
        self.chunks: list[bytes] = []
        self.events: list[tuple[int, int, int, bytes]] = []

    def __enter__(self) -> "_Library":
        _lock.acquire()
        try:
            folder = _data_folder()
            _write_voice(folder, self.voice_lines)
            self.lib = ctypes.CDLL(str(espeakng_loader.get_library_path()))
            self._declare()
            rate = self.lib.espeak_Initialize(
                _SYNCHRONOUS,
                _BUFFER_MS,
                os.fsencode(folder),
                _PHONEME_EVENTS_IPA_NO_EXIT,
            )
            if rate != NATIVE_RATE:
                raise EspeakError(
                    f"eSpeak NG did not start (code {rate}); reinstall espeakng-loader"
                )
            if self.lib.espeak_SetVoiceByName(b"voice") != 0:
                raise EspeakError("eSpeak NG did not accept the voice file")
            # keep a reference: ctypes does not
            self.callback = _Callback(self._collect)
            self.lib.espeak_SetSynthCallback(self.callback)
        except BaseException:
            _lock.release()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.lib.espeak_Terminate()
        unload = getattr(_ctypes, "dlclose", None) or _ctypes.FreeLibrary
        unload(self.lib._handle)
        _lock.release()

    def _declare(self) -> None:
        number, text, pointer = ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
        unsigned, size = ctypes.c_uint, ctypes.c_size_t
        self.lib.espeak_Synth.argtypes = [
            text, size, unsigned, number, unsigned, unsigned, pointer, pointer
        ]  # fmt: skip
        self.lib.espeak_Initialize.argtypes = [number, number, text, number]
        self.lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self.lib.espeak_TextToPhonemes.argtypes = [
            ctypes.POINTER(pointer), number, number
        ]  # fmt: skip
        self.lib.espeak_TextToPhonemes.restype = text

    def _collect(self, wave, length: int, events) -> int:
        if wave and length:
            self.chunks.append(ctypes.string_at(wave, 2 * length))
        i = 0
        while (event := events[i]).type != _EVENT_END_OF_LIST:
            if event.type in (_EVENT_WORD, _EVENT_PHONEME):
                self.events.append(
                    (event.type, event.text_position, event.sample, event.name)
                )
            i += 1
        return 0


def synthesize(
    text: str,
    voice_lines: str,
    rate: int = 175,
    volume: int = 100,
    seed: int = 0,
    phoneme_input: bool = False,
) -> Speech:
    """Speak `text` with the voice that `voice_lines` describe.

    voice_lines: attributes of an eSpeak NG voice file, one a line.
    rate: words a minute, 80..450. volume: 0..200. seed: of the breath noise.
    phoneme_input: read [[...]] in the text as eSpeak phoneme names.
    Returns a `Speech`; silence before and after is kept. The result depends on the
    arguments alone.
    """
    data = text.encode()
    flags = _UTF8 | (_PHONEME_INPUT if phoneme_input else 0)
    with _Library(voice_lines) as library:
        lib = library.lib
        lib.espeak_SetParameter(_RATE, int(np.clip(rate, *RATE_RANGE)), 0)
        lib.espeak_SetParameter(_VOLUME, volume, 0)
        lib.espeak_ng_SetRandSeed(seed & 0x7FFFFFFF)
        lib.espeak_Synth(data, len(data) + 1, 0, 1, 0, flags, None, None)
    pcm = np.frombuffer(b"".join(library.chunks), np.int16)
    words, phones = _spans(text, library.events, len(pcm))
    return Speech(pcm.astype(np.float32) / 32768, words, phones)


def ipa(text: str, voice_lines: str = "") -> str:
    """The phonemes of `text` in IPA, with stress marks, words parted by spaces."""
    return " ".join(said for said, _ in clauses(text, voice_lines) if said)


def clauses(text: str, voice_lines: str = "") -> list[tuple[str, str]]:
    """The clauses of `text`: the IPA of each and its last mark `.,;:?!`, or ""."""
    found = []
    data = text.encode()
    with _Library(voice_lines) as library:
        buffer = ctypes.create_string_buffer(data)
        begin = ctypes.addressof(buffer)
        pointer, read = ctypes.c_void_p(begin), 0
        while pointer.value:  # the library moves it on by one clause
            clause = library.lib.espeak_TextToPhonemes(
                ctypes.byref(pointer), _UTF8, _IPA
            )
            end = pointer.value - begin if pointer.value else len(data)
            written, read = data[read:end].decode("utf-8", "ignore"), end
            said = (clause or b"").decode("utf-8", "ignore").strip()
            # what follows the mark, a quotation mark or so, is not spoken
            marks = [c for c in written.rstrip()[-3:] if c in ".,;:?!"]
            found.append((said, marks[-1] if marks else ""))
    return found


def _spans(
    text: str, events: list[tuple[int, int, int, bytes]], length: int
) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Word and phone spans from the synthesiser's events.

    One written word can be several events (42: forty, two), and one event several
    written words (of the). The first are joined. The second are parted where the
    share of letters says, at a phone boundary.
    """
    tokens = [(m.start(), m.group()) for m in re.finditer(r"\S+", text)]
    starts = [start for start, _ in tokens]
    phones: list[Span] = []
    spoken: list[tuple[int, list[int]]] = []  # index of the token, of its phones
    marks = [e for e in events if e[0] == _EVENT_PHONEME]
    ends = iter([e[2] for e in marks[1:]] + [length])
    for kind, position, sample, name in events:
        if kind == _EVENT_WORD:
            token = max(bisect_right(starts, position - 1) - 1, 0)
            if not spoken or spoken[-1][0] != token:
                spoken.append((token, []))
            continue
        end = next(ends)
        label = name.decode("utf-8", "ignore").strip("ˈˌ")
        if not label:  # a pause
            continue
        start, end = sample / NATIVE_RATE, end / NATIVE_RATE
        if end <= start and phones:
            # an l that only colours the vowel before it: the vowel's last part
            vowel = phones[-1]
            start, end = vowel.end - _COLOURED * vowel.duration, vowel.end
            phones[-1] = replace(vowel, end=start)
        phones.append(Span(label, start, end))
        if spoken:
            spoken[-1][1].append(len(phones) - 1)
    words: list[Span] = []
    spoken = [entry for entry in spoken if entry[1]]
    for i, (token, its_phones) in enumerate(spoken):
        last = spoken[i + 1][0] if i + 1 < len(spoken) else len(tokens)
        written = [tokens[token][1]]
        for _, more in tokens[token + 1 : last]:
            if any(c.isalnum() for c in more):
                written.append(more)
        words += _part(written, [phones[k] for k in its_phones])
    return tuple(words), tuple(phones)


def _part(written: list[str], phones: list[Span]) -> list[Span]:
    """Give each written word its share of the phones, at least one where it can."""
    labels = [w.strip(".,;:!?\"'()…–—-") or w for w in written]
    letters = np.cumsum([len(label) for label in labels])
    cuts = np.rint(letters / letters[-1] * len(phones)).astype(int)
    spans, begin = [], 0
    for label, cut in zip(labels, cuts, strict=True):
        if cut > begin:
            spans.append(Span(label, phones[begin].start, phones[cut - 1].end))
        elif spans:  # fewer phones than words: they share one span
            spans[-1] = Span(
                f"{spans[-1].label} {label}", spans[-1].start, spans[-1].end
            )
        begin = max(begin, cut)
    return spans
