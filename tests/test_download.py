import hashlib
import os
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
from serving import serve, tarred, zipped

from speechlm_lab.corpus import transfer
from speechlm_lab.corpus.archives import UnsafeArchive, extract
from speechlm_lab.corpus.download import (
    Archive,
    Damaged,
    DownloadError,
    data_dir,
    fingerprint,
    obtain,
)
from speechlm_lab.corpus.transfer import fetch, progress_of

BODY = bytes(range(256)) * 4000  # 1 MB
SHA256 = "sha256:" + hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = serve()
    running.files["/body.bin"] = BODY
    yield running
    running.shutdown()


@pytest.fixture
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    monkeypatch.setenv("SPEECHLM_LAB_DATA", str(folder))
    return folder


MEMBERS = {"top-1.0/a/1.txt": "one", "top-1.0/a/2.txt": "two", "top-1.0/b.txt": "b"}


def toy(server, **changes) -> Archive:
    return Archive(**{"url": server.url("/toy.zip"), "keep": {"a/": "A/"}} | changes)


def there(folder: Path) -> bool:
    return (folder / "A" / "1.txt").exists()


def visible(folder: Path) -> list[str]:
    """All files below a folder but locks."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file.name for file in files if file.suffix != ".lock")


def test_the_file_arrives_whole_and_alone(server, tmp_path):
    path = fetch(server.url("/body.bin"), tmp_path / "new" / "body.bin", SHA256)
    assert path.read_bytes() == BODY
    assert visible(tmp_path) == ["body.bin"]


def test_what_is_there_is_not_asked_for_again(server, tmp_path):
    for _ in range(2):
        fetch(server.url("/body.bin"), tmp_path / "body.bin", SHA256)
    assert len(server.requests) == 1


def test_a_file_with_a_wrong_checksum_is_replaced(server, tmp_path):
    (tmp_path / "body.bin").write_bytes(b"something else")
    path = fetch(server.url("/body.bin"), tmp_path / "body.bin", SHA256)
    assert path.read_bytes() == BODY


def test_a_broken_connection_is_taken_up_where_it_stopped(server, tmp_path):
    server.cuts = [300_000, 200_000]
    path = fetch(server.url("/body.bin"), tmp_path / "body.bin", SHA256)
    assert path.read_bytes() == BODY
    ranges = [wanted for _, wanted in server.requests]
    assert ranges == [None, "bytes=300000-", "bytes=500000-"]


def test_without_ranges_a_broken_download_starts_over(server, tmp_path):
    server.etags = False
    server.cuts = [300_000]
    path = fetch(server.url("/body.bin"), tmp_path / "body.bin")
    assert path.read_bytes() == BODY
    assert [wanted for _, wanted in server.requests] == [None, None]


def test_a_part_of_an_older_version_is_not_continued(server, tmp_path):
    server.files["/body.bin"] = b"old" * 100_000
    server.cuts = [1000] * transfer.ATTEMPTS
    with pytest.raises(DownloadError):
        fetch(server.url("/body.bin"), tmp_path / "body.bin")
    assert visible(tmp_path) == ["body.bin.part", "body.bin.part.tag"]
    server.files["/body.bin"] = BODY
    path = fetch(server.url("/body.bin"), tmp_path / "body.bin")
    assert path.read_bytes() == BODY


def test_a_part_longer_than_the_file_starts_over(server, tmp_path):
    part = tmp_path / "body.bin.part"
    part.write_bytes(BODY)
    part.with_name("body.bin.part.tag").write_text(f'"{hash(BODY)}"')
    path = fetch(server.url("/body.bin"), tmp_path / "body.bin", SHA256)
    assert path.read_bytes() == BODY


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(server, tmp_path):
    with pytest.raises(DownloadError, match="Nothing was kept"):
        fetch(server.url("/body.bin"), tmp_path / "body.bin", "sha256:" + "0" * 64)
    assert visible(tmp_path) == []
    assert len(server.requests) == 2


def test_progress_outside_a_terminal_is_lines_on_standard_output(capsys):
    with progress_of("body.bin", 100_000_000, 15_000_000) as report:
        for _ in range(17):
            report(5_000_000)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "Downloading body.bin (100 MB)"
    assert [line[-5:] for line in lines[1:]] == [
        f"{p:3d} %" for p in range(20, 101, 10)
    ]
    assert err == ""


def test_md5_is_understood(server, tmp_path):
    fetch(
        server.url("/body.bin"),
        tmp_path / "body.bin",
        "md5:" + hashlib.md5(BODY).hexdigest(),
    )


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.statuses = [503, 429]
    path = fetch(server.url("/body.bin"), tmp_path / "body.bin", SHA256)
    assert path.read_bytes() == BODY


def test_a_missing_file_is_asked_for_once(server, tmp_path):
    with pytest.raises(DownloadError, match="(?s)Not Found.*/gone.bin"):
        fetch(server.url("/gone.bin"), tmp_path / "gone.bin")
    assert len(server.requests) == 1


def test_offline_says_in_one_line_what_to_do(data, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url = "http://127.0.0.1:9/toy.zip"  # nobody listens there
    with pytest.raises(DownloadError) as caught:
        obtain("toy", Archive(url, {"a/": "A/"}), there)
    message = str(caught.value)
    assert "\n" not in message
    for part in (url, str(data / "toy.zip"), "SPEECHLM_LAB_DATA"):
        assert part in message
    assert caught.value.__suppress_context__  # no chain of tracebacks above the line
    assert visible(data) == []


def test_a_data_set_is_downloaded_once(server, data):
    server.files["/toy.zip"] = zipped(MEMBERS)
    verified = []
    for _ in range(2):
        folder = obtain("toy", toy(server), there, verified.append)
    assert len(verified) == 1
    assert folder == data / "toy"
    assert (folder / "A" / "2.txt").read_text() == "two"
    assert not (folder / "b.txt").exists()  # not asked for
    assert len(server.requests) == 1
    assert visible(data) == [".complete.json", "1.txt", "2.txt"]


def test_a_folder_filled_by_hand_is_used_as_it_is(data):
    (data / "toy" / "A").mkdir(parents=True)
    (data / "toy" / "A" / "1.txt").write_text("mine")
    archive = Archive("http://127.0.0.1:9/toy.zip", {})
    folder = obtain("toy", archive, there)
    assert visible(folder) == ["1.txt"]
    assert visible(data) == ["1.txt"]


def test_a_folder_filled_by_hand_in_part_is_not_touched(server, data):
    server.files["/toy.zip"] = zipped(MEMBERS)
    (data / "toy").mkdir(parents=True)
    (data / "toy" / "mine.txt").write_text("mine")
    with pytest.raises(DownloadError, match="incomplete"):
        obtain("toy", toy(server), there)
    assert visible(data) == ["mine.txt"]


def test_an_archive_saved_by_hand_is_used(data):
    data.mkdir()
    (data / "toy.zip").write_bytes(zipped(MEMBERS))
    archive = Archive("http://127.0.0.1:9/toy.zip", {"a/": "A/"})
    folder = obtain("toy", archive, there)
    assert (folder / "A" / "1.txt").read_text() == "one"


@pytest.mark.parametrize("damage", ["gone", "shorter"])
def test_a_damaged_data_set_is_downloaded_again(server, data, damage):
    server.files["/toy.zip"] = zipped(MEMBERS)
    folder = obtain("toy", toy(server), there)
    if damage == "gone":
        (folder / "A" / "2.txt").unlink()
    else:
        (folder / "A" / "2.txt").write_text("")
    obtain("toy", toy(server), there)
    assert (folder / "A" / "2.txt").read_text() == "two"
    assert len(server.requests) == 2


def test_files_that_fail_their_check_are_downloaded_again(server, data):
    whole = zipped(MEMBERS)
    server.files["/toy.zip"] = whole

    def first_wrong(folder: Path) -> None:
        if len(server.requests) == 1:
            raise Damaged("the first is wrong")

    obtain("toy", toy(server), there, first_wrong)
    assert len(server.requests) == 2
    assert visible(data) == [".complete.json", "1.txt", "2.txt"]


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2"])
@pytest.mark.parametrize("harm", ["cut", "noise"])
def test_an_archive_that_stays_damaged_leaves_nothing(server, data, suffix, harm):
    if suffix == ".zip":
        body = zipped({name: text * 5000 for name, text in MEMBERS.items()})
    else:
        body = tarred({name: text * 5000 for name, text in MEMBERS.items()}, suffix)
    server.files["/toy" + suffix] = (
        body[: len(body) // 2] if harm == "cut" else b"<html>" + body[6:]
    )
    if (suffix, harm) == (".zip", "noise"):
        server.files["/toy.zip"] = b"<html>Sign in to this network</html>"
    with pytest.raises(DownloadError, match="damaged"):
        obtain("toy", toy(server, url=server.url("/toy" + suffix)), there)
    assert len(server.requests) == 2
    assert visible(data) == []


def test_files_that_were_expected_must_be_in_the_archive(server, data):
    server.files["/toy.zip"] = zipped({"top/b.txt": "b"})
    with pytest.raises(DownloadError, match="files are missing"):
        obtain("toy", toy(server), there)
    assert visible(data) == []


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPEECHLM_LAB_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(DownloadError, match="SPEECHLM_LAB_DATA"):
        obtain("toy", Archive("http://127.0.0.1:9/toy.zip", {}), there)


OTHER = """
import sys
from pathlib import Path
from speechlm_lab.corpus.download import Archive, obtain
print(flush=True)
obtain("toy", Archive(sys.argv[1], {"a/": "A/"}),
       lambda folder: (folder / "A" / "1.txt").exists())
print((Path(sys.argv[2]) / "toy" / "A" / "2.txt").read_text())
"""


def other_process(server, data):
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, server.url("/toy.zip"), str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"SPEECHLM_LAB_DATA": str(data)},
    )


def test_two_processes_at_once_download_once(server, data):
    server.files["/toy.zip"] = zipped(MEMBERS)
    server.stall = threading.Event()
    both = [other_process(server, data) for _ in range(2)]
    for process in both:
        process.stdout.readline()  # it is about to ask
    time.sleep(0.5)
    server.stall.set()
    answers = [process.communicate(timeout=60) for process in both]
    assert [out.split()[-1] for out, _ in answers] == ["two", "two"], answers
    assert len(server.requests) == 1
    assert visible(data) == [".complete.json", "1.txt", "2.txt"]


def test_a_download_that_was_killed_is_continued(server, data):
    body = zipped(MEMBERS | {"top/rest.bin": os.urandom(600_000).hex()})
    server.files["/toy.zip"] = body
    server.stall = threading.Event()
    process = other_process(server, data)
    part = data / "toy.zip.part"
    end = time.monotonic() + 60
    # half is on its way; wait until a good piece of it is on the disk
    while not (part.exists() and part.stat().st_size >= 1 << 18):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.communicate()
    assert not (data / "toy").exists()
    server.stall.set()
    server.stall = None
    obtain("toy", toy(server), there)
    assert (data / "toy" / "A" / "2.txt").read_text() == "two"
    first, second = (wanted for _, wanted in server.requests)
    assert first is None and int(second[6:-1]) >= 1 << 18


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo("top/x")
    info.type = kind
    info.linkname = target
    return info


UNSAFE_NAMES = ["../x", "top/../../x", "/tmp/x", "top\\..\\..\\x", "C:/x", "top/.."]


@pytest.mark.parametrize("name", UNSAFE_NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_outside_the_folder_is_refused(tmp_path, name, kind):
    members = {"top/fine.txt": "fine", name: "evil"}
    if kind == "zip":
        archive = tmp_path / "toy.zip"
        archive.write_bytes(zipped(members))
    else:
        archive = tmp_path / "toy.tar.gz"
        archive.write_bytes(tarred(members))
    with pytest.raises(UnsafeArchive, match="refused"):
        extract(archive, tmp_path / "in" / "toy", {"fine.txt": "fine.txt"})
    assert visible(tmp_path) == [archive.name]


@pytest.mark.parametrize(
    "member",
    [
        special(tarfile.SYMTYPE, "/etc"),
        special(tarfile.SYMTYPE, "fine.txt"),
        special(tarfile.LNKTYPE, "top/fine.txt"),
        special(tarfile.CHRTYPE),
        special(tarfile.BLKTYPE),
        special(tarfile.FIFOTYPE),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, member):
    archive = tmp_path / "toy.tar.gz"
    archive.write_bytes(tarred({"top/fine.txt": "fine"}, special=member))
    with pytest.raises(UnsafeArchive):
        extract(archive, tmp_path / "toy")
    assert visible(tmp_path) == ["toy.tar.gz"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, kind):
    archive = tmp_path / "toy.zip"
    with zipfile.ZipFile(archive, "w") as writing:
        info = zipfile.ZipInfo("top/x")
        info.external_attr = (kind | 0o777) << 16
        writing.writestr(info, "/etc")
    with pytest.raises(UnsafeArchive):
        extract(archive, tmp_path / "toy")
    assert visible(tmp_path) == ["toy.zip"]


def test_an_unsafe_archive_is_not_kept(server, data):
    server.files["/toy.zip"] = zipped(MEMBERS | {"../x": "evil"})
    with pytest.raises(UnsafeArchive):
        obtain("toy", toy(server), there)
    assert visible(data) == []


def test_unpacking_that_fails_leaves_the_old_folder(tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "old.txt").write_text("old")
    archive = tmp_path / "toy.zip"
    archive.write_bytes(zipped(MEMBERS))

    def fail(folder: Path) -> None:
        assert sorted(visible(folder)) == ["1.txt", "2.txt", "b.txt"]
        raise Damaged("no")

    with pytest.raises(Damaged):
        extract(archive, tmp_path / "toy", finish=fail)
    assert visible(tmp_path) == ["old.txt", "toy.zip"]
    extract(archive, tmp_path / "toy")
    assert visible(tmp_path) == ["1.txt", "2.txt", "b.txt", "toy.zip"]


def test_the_fingerprint_is_made_of_git_blob_ids(tmp_path):
    (tmp_path / "b").write_bytes(b"hello\n")
    (tmp_path / "a").write_bytes(b"")
    # `git hash-object` gives these two ids
    lines = (
        "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391 a\n"
        "ce013625030ba8dba906f756967f9e9ca394464a b\n"
    )
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert fingerprint(tmp_path.iterdir()) == expected


def test_the_data_folder_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SPEECHLM_LAB_DATA", str(tmp_path))
    assert data_dir() == tmp_path
    monkeypatch.delenv("SPEECHLM_LAB_DATA")
    assert data_dir().name == "speechlm_lab"
    assert data_dir().is_absolute()
