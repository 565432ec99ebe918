"""Files whole or not at all: nothing is lost, nothing half written is left."""

import os
import subprocess
import sys

import pytest
import torch

from speechlm_lab import audio
from speechlm_lab.audio import AudioError
from speechlm_lab.whole_files import check_apart, replacing


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as part:
        part.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="links and modes of POSIX")
def test_links_and_permissions_stay(tmp_path):
    path, link = tmp_path / "folder" / "x.txt", tmp_path / "link.txt"
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    with replacing(link) as part:
        part.write_text("new")
    assert link.is_symlink() and path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "place, words",
    [("a/b", "create it"), ("", "is a folder"), ("/dev/null", "no regular file")],
)
def test_places_that_are_none(tmp_path, place, words):
    with pytest.raises(AudioError, match=words), replacing(tmp_path / place):
        pass
    assert not list(tmp_path.iterdir())


def test_input_and_output_are_told_apart(tmp_path):
    one, other, link = (tmp_path / name for name in ("one", "other", "link"))
    check_apart(one, one)  # neither is there
    one.touch()
    check_apart(one, other)
    link.symlink_to(one)
    for target in (one, link):
        with pytest.raises(AudioError, match="input itself"):
            check_apart(one, target)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_empty_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="to a file first"):
        audio.load(tmp_path / "pipe.wav")


FULL = """
import resource, sys, torch
from speechlm_lab import audio, audio_blocks
wave, (path, room) = torch.arange(40_000) % 99 / 99, sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), int(room)))
blocks = lambda path, wave: audio_blocks.save_blocks(path, [wave], 16_000, 40_000)
for write in (audio.save, blocks):
    try:
        write(path, wave)
    except audio.AudioError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file's size")
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_full_disk_loses_nothing(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    audio.save(path, torch.arange(40_000) % 99 / 99)
    before, size = path.read_bytes(), path.stat().st_size
    for room in (size - 1, size // 2, 10):  # the last block, the middle, the header
        command = [sys.executable, "-c", FULL, str(path), str(room)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.count("room on the disk") == 2, done.stdout
        assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
