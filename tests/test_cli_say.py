"""`speechlm-lab say`: texts from anywhere, files where they belong, clear refusals."""

import io
import shutil

import pytest
import soundfile
import torch

from speechlm_lab import audio, cli, environment, layout
from speechlm_lab.corpus.tiny_voices import speak
from speechlm_lab.lm import LanguageModel, LMConfig
from speechlm_lab.speechlm import SpeechLM


@pytest.fixture(autouse=True)
def ready(monkeypatch):
    monkeypatch.setattr(environment, "ensure", lambda arguments: None)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    config = LMConfig(
        codebooks=2, width=16, layers=1, heads=2, hidden=16,
        texts=layout.TEXTS, roles=layout.ROLES,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("lm")
    LanguageModel(config).save_pretrained(folder)
    return str(folder)


def say(model, *arguments):
    return cli.main(["say", "--model", model, *map(str, arguments)])


def test_a_text_becomes_a_file_and_a_seed_fixes_it(model, tmp_path, monkeypatch):
    seeds, speak = [], SpeechLM.speak

    def noted(self, text, voice, emotion, seed):
        seeds.append(seed)
        return speak(self, text, voice, emotion, seed)

    monkeypatch.setattr(SpeechLM, "speak", noted)
    files = [tmp_path / name for name in ("a.wav", "b.wav", "c.flac")]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        assert say(model, "hi there", "--seed", seed, "-o", file) == 0
    one, two, three = (soundfile.read(file)[0] for file in files)
    assert len(one) > 1_000 and (one == two).all() and len(three) > 1_000
    assert seeds == [1, 1, 2], "what a seed changes is a matter of test_speaking"


def test_lines_of_a_file_become_files(model, tmp_path, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("one.\n\n  two [laugh] \n", encoding="utf-8")
    assert say(model, "--file", lines, "--out-dir", tmp_path / "d") == 0
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["1.wav", "2.wav"]
    assert capsys.readouterr().out.count(".wav: ") == 2


def test_a_bad_line_is_named_before_anything_is_said(model, tmp_path, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("one.\n[dance]\n", encoding="utf-8")
    assert say(model, "--file", lines, "--out-dir", tmp_path / "d") == 2
    assert "2.wav: unknown tag" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()
    lines.write_text("\n", encoding="utf-8")
    assert say(model, "--file", lines, "--out-dir", tmp_path / "d") == 2
    assert "no line" in capsys.readouterr().err


def test_standard_input_is_a_text(model, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("good\nmorning\n"))
    assert say(model, "-o", tmp_path / "x.wav") == 0
    assert (tmp_path / "x.wav").exists()


def test_a_voice_is_a_recording_or_a_number(model, tmp_path):
    clip = tmp_path / "voice.wav"
    audio.save(clip, speak("a clip of a voice.", 5).wave)
    assert say(model, "hi", "--voice", clip, "-o", tmp_path / "x.wav") == 0
    assert say(model, "hi", "--voice", "held-out:2", "-o", tmp_path / "y.wav") == 0


def bad_voices(folder):
    wave = speak("a clip of a voice that is long enough.", 5).wave
    short, loud, long = wave[:1_000], (wave * 60).clamp(-1, 1), wave.repeat(20)
    for name, w in {"short": short, "clipped": loud, "long": long}.items():
        audio.save(folder / f"{name}.wav", w)
    soundfile.write(folder / "silent.wav", torch.zeros(32_000).numpy(), 16_000)


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["!?"], "letter"),
        (["[dance]"], "laugh"),
        (["日本"], "Latin"),
        (["hello", "--emotion", "cheerful"], "happy"),
        (["hello", "--voice", "nobody.wav"], "nobody.wav"),
        (["hello", "--voice", "short.wav"], "longer"),
        (["hello", "--voice", "long.wav"], "one person"),
        (["hello", "--voice", "silent.wav"], "silent"),
        (["hello", "--voice", "clipped.wav"], "clipped"),
        (["hello", "--file", "lines.txt"], "not both"),
        (["--file", "none.txt"], "none.txt"),
        (["--file", "latin.txt"], "UTF-8"),
        (["hello", "-o", "x.mp3"], ".flac"),
        (["hello", "-o", "none/x.wav"], "create it"),
        (["hello", "--seed", str(2**64)], "64 bits"),
        (["hello ꜳ"], "Latin"),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(
    model, arguments, word, capsys, tmp_path, monkeypatch
):
    bad_voices(tmp_path)
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SpeechLM, "speak", None)  # it is found out before any work
    assert say(model, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("say: ") and error.count("\n") == 1 and word in error
    assert not (tmp_path / "out.wav").exists()


def test_what_is_read_is_never_overwritten(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    for name in ("out.wav", "d/1.wav"):
        audio.save(tmp_path / name, speak("a clip of a voice.", 5).wave)
    (tmp_path / "l.wav").write_text("a line\n")
    files = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}
    for arguments in (
        ["hello", "--voice", "out.wav"],  # which is also where it goes by default
        ["--file", "l.wav", "--out-dir", "d", "--voice", "d/1.wav"],
        ["--file", "l.wav", "-o", "l.wav"],
    ):
        assert say(model, *arguments) == 2
        assert "input itself" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*")} == files


def test_stopped_by_hand_it_says_so_in_a_line(model, monkeypatch, capsys):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(SpeechLM, "speak", stopped)
    assert say(model, "hello") == 130
    assert capsys.readouterr().err == "say: stopped\n"


def test_a_damaged_model_is_refused(model, tmp_path, capsys):
    folder = tmp_path / "lm"
    shutil.copytree(model, folder)
    (folder / "speaking.json").write_text('{"loudness": 1}')
    assert say(str(folder), "hello") == 2
    assert "speaking.json" in capsys.readouterr().err
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-9])
    for place in (folder, tmp_path / "nowhere"):
        assert say(str(place), "hello") == 2
        error = capsys.readouterr().err
        assert str(place) in error and error.count("\n") == 1


def test_stereo_is_refused_where_a_wave_is_given():
    from speechlm_lab.speechlm import prepare_voice

    with pytest.raises(audio.AudioError, match=r"\[T\]|mono"):
        prepare_voice(torch.rand(2, 16_000), 16_000)
