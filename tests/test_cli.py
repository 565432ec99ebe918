"""The command line: clear words for wrong input, and files where they belong."""

import pytest
import soundfile

from speechlm_lab import cli, environment


@pytest.fixture(autouse=True)
def ready(monkeypatch):
    monkeypatch.setattr(environment, "ensure", lambda arguments: None)


def test_synth_writes_a_file(tmp_path, capsys):
    out = tmp_path / "out.wav"
    text = ["synth", "a small test", "--speaker", "held-out:3", "-o", str(out)]
    assert cli.main([*text, "--emotion", "happy"]) == 0
    wave, rate = soundfile.read(out)
    assert rate == 16_000
    assert 0.4 < len(wave) / rate < 5
    assert "out.wav" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["synth", ""], "letter"),
        (["synth", "hello", "--speaker", "nobody"], "held-out"),
        (["synth", "hello", "--speaker", "²"], "held-out"),
        (["synth", "hello", "--emotion", "bored"], "happy"),
        (["synth", "hello [sneeze]"], "laugh"),
        (["synth", "hello", "--scene", "moon"], "rain"),
    ],
)
def test_wrong_input_is_one_line_with_the_remedy(arguments, word, capsys, tmp_path):
    out = tmp_path / "x.wav"
    assert cli.main([*arguments, "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("synth: ") and error.count("\n") == 1
    assert word in error
    assert not out.exists()


def test_unknown_options_are_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["book", "--fast"])
    assert "--fast" in capsys.readouterr().err


def test_outside_a_clone_book_says_so(monkeypatch, capsys):
    monkeypatch.setattr(environment, "project_root", lambda: None)
    assert cli.main(["book"]) == 2
    assert "clone" in capsys.readouterr().err


def test_train_tells_its_recipes_and_options(capsys):
    for arguments in (["train", "--help"], ["train", "codec", "--help"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        said = capsys.readouterr().out
        assert ended.value.code == 0 and "speechlm-laptop" in said and "--steps" in said
    with pytest.raises(SystemExit):
        cli.main(["train", "--steps", "5", "codecs"])
    assert "invalid choice: 'codecs'" in capsys.readouterr().err
