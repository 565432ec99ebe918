import hashlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from serving import serve, tarred, zipped
from torch.utils.data import DataLoader

from speechlm_lab.corpus import barista, fsdd, hub, transfer
from speechlm_lab.corpus.barista import Barista
from speechlm_lab.corpus.download import Archive, DownloadError, data_dir, fingerprint
from speechlm_lab.corpus.fsdd import DIGITS, FSDD
from speechlm_lab.corpus.hub import ESC50, CremaD, LibriTTSR, LJSpeech
from speechlm_lab.corpus.items import Item
from speechlm_lab.corpus.recordings import Recordings, before_last_tenth

ON_DISK = data_dir()  # before the tests name another folder


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHLM_LAB_DATA", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    return tmp_path


@pytest.fixture
def server():
    running = serve()
    yield running
    running.shutdown()


def sound(sample_rate: int, seconds: float = 0.1, hertz: float = 440) -> bytes:
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    buffer = io.BytesIO()
    wave = 0.5 * np.sin(2 * math.pi * hertz * time)
    soundfile.write(buffer, wave, sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def fingerprint_of(folder: Path, members: dict[str, bytes]) -> str:
    folder.mkdir()
    for name, content in members.items():
        if name.endswith(".wav"):
            (folder / Path(name).name).write_bytes(content)
    return fingerprint(folder.iterdir())


def names(dataset) -> set[str]:
    return {file.name for file in dataset.files}


def assert_split(*parts, of):
    """The parts are disjoint and together are all of it."""
    together = [name for part in parts for name in names(part)]
    assert len(together) == len(set(together))
    assert set(together) == of


# ---------------------------------------------------------------- FSDD


def fsdd_members() -> dict[str, bytes]:
    top = "free-spoken-digit-dataset-1.0.10"
    members = {f"{top}/README.md": b"CC BY-SA 4.0", f"{top}/metadata.py": b""}
    wave = sound(8000)
    for digit in range(10):
        for speaker in ("george", "theo"):
            for number in range(50):
                members[f"{top}/recordings/{digit}_{speaker}_{number}.wav"] = wave
    return members


@pytest.fixture
def fsdd_served(server, data, monkeypatch, tmp_path_factory):
    members = fsdd_members()
    server.files["/fsdd.zip"] = zipped(members)
    archive = Archive(server.url("/fsdd.zip"), fsdd.ARCHIVE.keep)
    monkeypatch.setattr(fsdd, "ARCHIVE", archive)
    expected = fingerprint_of(tmp_path_factory.mktemp("f") / "all", members)
    monkeypatch.setattr(fsdd, "FINGERPRINT", expected)
    return server


def test_fsdd_splits_are_the_official_ones(fsdd_served):
    train, held_out, test = (FSDD(split) for split in fsdd.SPLITS)
    everything = {
        f"{d}_{s}_{n}.wav"
        for d in range(10)
        for s in ("george", "theo")
        for n in range(50)
    }
    assert_split(train, held_out, test, of=everything)
    number = lambda name: int(name[:-4].rpartition("_")[2])  # noqa: E731
    assert {number(name) for name in names(test)} == {0, 1, 2, 3, 4}
    # every digit of every speaker is in every split
    for part in (train, held_out, test):
        assert len({name.rpartition("_")[0] for name in names(part)}) == 20
    assert len(fsdd_served.requests) == 1


def test_an_fsdd_item(fsdd_served):
    dataset = FSDD("test")
    for index in (0, 57, len(dataset) - 1):
        item = dataset[index]
        digit, speaker, _ = dataset.files[index].stem.split("_")
        assert isinstance(item, Item)
        assert (item.text, item.speaker) == (DIGITS[int(digit)], speaker)
    assert item.sample_rate == 16_000 and item.wave.shape == (1600,)
    spectrum = item.wave.numpy() * np.hanning(1600)
    assert np.abs(np.fft.rfft(spectrum)).argmax() == 44  # 440 Hz still, bins of 10 Hz
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_other_recordings_than_the_pinned_are_refused(fsdd_served, data, monkeypatch):
    monkeypatch.setattr(fsdd, "FINGERPRINT", "0" * 64)
    with pytest.raises(DownloadError, match="1.0.10"):
        FSDD()
    assert not (data / "fsdd").exists()


@pytest.mark.skipif(not (ON_DISK / "fsdd").exists(), reason="FSDD is not on this disk")
def test_fsdd_on_this_disk_is_the_pinned_one(monkeypatch):
    monkeypatch.setenv("SPEECHLM_LAB_DATA", str(ON_DISK))
    fsdd._verify(ON_DISK / "fsdd")
    assert [len(FSDD(split)) for split in fsdd.SPLITS] == [2400, 300, 300]
    assert FSDD("test")[0].wave.abs().max() > 0.01


# ---------------------------------------------------------------- Barista


def barista_members() -> dict[str, bytes]:
    top = "speech-to-intent-benchmark-47b1ca63"
    members = {
        f"{top}/LICENSE": b"Apache",
        f"{top}/README.md": b"",
        f"{top}/a.txt": b"",
    }
    labels = {}
    for index in range(50):
        name = f"{'0123456789abcdef'[index % 16]}{index:03d}-ab.wav"
        members[f"{top}/data/speech/clean/{name}"] = sound(16_000)
        slots = {"size": "large", "milkAmount": " soy milk", "coffeeDrink": "latte"}
        labels[name] = {"intent": "orderDrink", "slots": slots}
    members[f"{top}/data/label/label.json"] = json.dumps(labels).encode()
    members[f"{top}/data/noise/cafe.wav"] = b"not wanted"
    return members


@pytest.fixture
def barista_served(server, data, monkeypatch, tmp_path_factory):
    members = barista_members()
    server.files["/barista.zip"] = zipped(members)
    archive = Archive(server.url("/barista.zip"), barista.ARCHIVE.keep)
    monkeypatch.setattr(barista, "ARCHIVE", archive)
    speech = {name: body for name, body in members.items() if "/clean/" in name}
    expected = fingerprint_of(tmp_path_factory.mktemp("b") / "all", speech)
    monkeypatch.setattr(barista, "FINGERPRINT", expected)
    return {Path(name).name for name in speech}


def test_barista_splits_are_the_official_ones(barista_served):
    train, held_out, test = (Barista(split) for split in barista.SPLITS)
    assert_split(train, held_out, test, of=barista_served)
    assert all(name[0] in "abcdef" for name in names(test))
    assert not any(name[0] in "abcdef" for name in names(train) | names(held_out))
    assert len(held_out) == (len(train) + len(held_out)) // 10
    assert min(names(held_out)) > max(names(train))


def test_a_barista_item_says_what_is_wanted(barista_served):
    item = Barista()[0]
    assert isinstance(item, Item)
    assert item.intent == "orderDrink"
    slots = {"coffeeDrink": "latte", "milkAmount": "soy milk", "size": "large"}
    assert item.slots == slots
    assert item.caption == "Someone orders coffee: latte, soy milk, large."
    assert (item.text, item.speaker) == ("", None)  # nobody has written them down


def test_barista_in_place_as_flac(data):
    speech = data / "barista" / "speech"
    speech.mkdir(parents=True)
    labels = {f"{i}x.wav": {"intent": "orderDrink", "slots": {}} for i in range(10)}
    (data / "barista" / "label.json").write_text(json.dumps(labels))
    for name in labels:
        soundfile.write(speech / name.replace("wav", "flac"), np.full(800, 0.1), 16_000)
    assert (len(Barista("train")), len(Barista("held_out"))) == (9, 1)
    assert Barista()[0].wave.shape == (800,)
    with pytest.raises(ValueError, match="'test'.*Move the folder away"):
        Barista("test")


# ---------------------------------------------------------------- the larger ones


def test_ljspeech(server, monkeypatch):
    wave = sound(22_050)
    entries = [(f"LJ001-{i:04d}", f"No. {i}|number {i}") for i in range(20)]
    table = "\n".join("|".join(entry) for entry in entries)
    table = table.replace("number 3", 'he said "three')  # a quote is just a quote
    body = tarred(
        {f"LJSpeech-1.1/wavs/{name}.wav": wave for name, _ in entries}
        | {"LJSpeech-1.1/metadata.csv": table.encode()},
        ".tar.bz2",
    )
    server.files["/LJSpeech-1.1.tar.bz2"] = body
    archive = Archive(
        server.url("/LJSpeech-1.1.tar.bz2"),
        hub.LJSPEECH.keep,
        "sha256:" + hashlib.sha256(body).hexdigest(),
    )
    monkeypatch.setattr(hub, "LJSPEECH", archive)
    train, held_out = LJSpeech("train"), LJSpeech("held_out")
    assert_split(train, held_out, of={f"{name}.wav" for name, _ in entries})
    assert len(held_out) == 2
    assert (train[2].text, train[2].speaker) == ("number 2", "LJ")
    assert train[3].text == 'he said "three'
    assert train[2].wave.shape == (1600,)


def test_libritts_r(server, monkeypatch):
    stem = "LibriTTS_R/dev-clean/84/121123/84_121123_000007_00000"
    body = tarred(
        {
            f"{stem}1.wav": sound(24_000),
            f"{stem}1.normalized.txt": b"Go! do you hear?\n",
            f"{stem}1.original.txt": b"Go! do you hear?",
            f"{stem}2.wav": sound(24_000),  # without a text
        },
        ".tar.gz",
    )
    server.files["/dev_clean.tar.gz"] = body
    monkeypatch.setattr(hub, "LIBRITTS_R_URL", server.url(""))
    md5 = hashlib.md5(body).hexdigest()
    monkeypatch.setitem(hub.LIBRITTS_R_MD5, "dev-clean", md5)
    dataset = LibriTTSR("dev-clean")
    assert len(dataset) == 1
    item = dataset[0]
    assert (item.text, item.speaker) == ("Go! do you hear?", "84")
    assert item.wave.shape == (1600,)


@pytest.fixture
def crema_d_served(server, monkeypatch, tmp_path_factory):
    """The archive with its pointers, and the sounds that they point to."""
    top = "CREMA-D-1658cd34"
    members = {f"{top}/LICENSE.txt": b"ODbL", f"{top}/VideoFlash/x.flv": b"no"}
    for actor in (1001, 1073, 1074, 1082, 1083, 1091):
        for sentence, emotion in (("IEO", "ANG"), ("DFA", "SAD")):
            name = f"{actor}_{sentence}_{emotion}_XX.wav"
            body = sound(16_000, hertz=actor)
            sha256 = hashlib.sha256(body).hexdigest()
            pointer = (
                "version https://git-lfs.github.com/spec/v1\n"
                f"oid sha256:{sha256}\nsize {len(body)}\n"
            )
            members[f"{top}/AudioWAV/{name}"] = pointer.encode()
            server.files[f"/raw/{hub.CREMA_D_COMMIT}/AudioWAV/{name}"] = body
    members[f"{top}/AudioWAV/{hub.CREMA_D_SILENT}.wav"] = b"pointer"
    server.files["/crema_d.zip"] = zipped(members)
    archive = Archive(server.url("/crema_d.zip"), hub.CREMA_D_POINTERS.keep)
    monkeypatch.setattr(hub, "CREMA_D_POINTERS", archive)
    monkeypatch.setattr(hub, "CREMA_D_URL", server.url(""))
    expected = fingerprint_of(tmp_path_factory.mktemp("c") / "all", members)
    monkeypatch.setattr(hub, "CREMA_D_FINGERPRINT", expected)
    return server


def test_crema_d(crema_d_served):
    train, held_out, test = (CremaD(split) for split in ("train", "held_out", "test"))
    speakers = [{item.speaker for item in part} for part in (train, held_out, test)]
    assert speakers == [{"1001", "1073"}, {"1074", "1082"}, {"1083", "1091"}]
    sad, angry = train[0], train[1]
    assert (sad.emotion, sad.text) == ("sad", "Don't forget a jacket.")
    assert (angry.emotion, angry.text) == ("angry", "It's eleven o'clock.")
    requests = len(crema_d_served.requests)
    assert requests == 13  # the archive and 12 sounds; not the silent one
    CremaD("train")
    assert len(crema_d_served.requests) == requests


def test_crema_d_goes_on_where_it_was_broken_off(crema_d_served):
    sounds = [path for path in crema_d_served.files if "1073_IEO" in path]
    kept = crema_d_served.files.pop(sounds[0])
    with pytest.raises(DownloadError, match="1073_IEO"):
        CremaD("train")
    crema_d_served.files[sounds[0]] = kept[:-2] + b"\x77\x77"  # altered on its way
    with pytest.raises(DownloadError, match="sha256"):
        CremaD("train")
    crema_d_served.files[sounds[0]] = kept
    before = len(crema_d_served.requests)
    assert len(CremaD("train")) == 4
    assert len(crema_d_served.requests) <= before + 3
    assert crema_d_served.requests[-1][0] == sounds[0]


def test_esc_50(server, monkeypatch):
    top = "ESC-50-33c8ce9e"
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    members = {f"{top}/LICENSE": b"CC BY-NC", f"{top}/esc50.gif": b""}
    for fold in range(1, 6):
        name = f"{fold}-100-A-20.wav"
        rows.append(f"{name},{fold},20,crying_baby,True,100,A")
        members[f"{top}/audio/{name}"] = sound(44_100)
    members[f"{top}/meta/esc50.csv"] = "\n".join(rows).encode()
    server.files["/esc.zip"] = zipped(members)
    archive = Archive(server.url("/esc.zip"), hub.ESC_50.keep)
    monkeypatch.setattr(hub, "ESC_50", archive)
    with pytest.raises(DownloadError, match="5 sounds instead of 2000"):
        ESC50()
    monkeypatch.setattr(hub, "ESC_50_FILES", 5)
    parts = [ESC50(split) for split in ("train", "held_out", "test")]
    assert_split(*parts, of={f"{fold}-100-A-20.wav" for fold in range(1, 6)})
    assert [len(part) for part in parts] == [3, 1, 1]
    item = parts[0][0]
    assert (item.scene, item.text) == ("crying baby", "")
    assert item.caption == "A sound: crying baby."
    assert item.wave.shape == (1600,)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("corpus", [FSDD, Barista, LJSpeech, LibriTTSR, CremaD, ESC50])
def test_an_unknown_split_names_the_choices(corpus):
    with pytest.raises(ValueError, match="'valid': choose from .*train"):
        corpus("valid")


PINNED = [
    fsdd.ARCHIVE,
    barista.ARCHIVE,
    hub.LJSPEECH,
    hub.CREMA_D_POINTERS,
    hub.ESC_50,
]


@pytest.mark.parametrize("archive", PINNED)
def test_every_source_is_pinned(archive):
    assert archive.url.startswith("https://")
    assert archive.suffix in (".zip", ".tar.gz", ".tar.bz2")
    for moving in ("master", "main", "latest"):
        assert moving not in archive.url


@pytest.mark.parametrize("count", [1, 9, 10, 395])
def test_the_last_tenth_is_a_tenth_rounded_down(count):
    assert count - before_last_tenth(range(count)) == count // 10


def test_worker_processes_read_the_same_items(data):
    files = [data / f"{hertz}.wav" for hertz in (200, 300, 400)]
    for file in files:
        file.write_bytes(sound(16_000, hertz=int(file.stem)))
    dataset = Recordings(files, [{"text": file.stem} for file in files])
    loaded = list(DataLoader(dataset, batch_size=None, num_workers=2))
    assert [item.text for item in loaded] == ["200", "300", "400"]
    for item, other in zip(loaded, dataset, strict=True):
        assert torch.equal(item.wave, other.wave)
