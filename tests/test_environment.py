"""The set-up: found where it stands, made where it does not, taken up again."""

import subprocess
import sys
from pathlib import Path

import pytest

from speechlm_lab import environment

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def clone(tmp_path):
    """A folder with the pin files of this project and nothing installed."""
    for name in (environment.LOCK, environment.TORCH_PINS, "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    return tmp_path


@pytest.fixture
def commands(monkeypatch):
    """Records what the set-up would run, instead of running it."""
    ran = []

    def run(command, log, title):
        ran.append([str(part) for part in command])

    monkeypatch.setattr(environment, "_run", run)
    return ran


def test_reads_pins_with_markers_and_hashes(tmp_path):
    path = tmp_path / "lock"
    path.write_text(
        "Some_Package==1.2.3 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n"
        "# other==9\nx==1\n"
    )
    assert environment.read_pins(path) == {"some-package": "1.2.3", "x": "1"}


def test_here_everything_is_present():
    assert environment.missing_here(ROOT) == []


def test_with_everything_present_no_environment_is_made(monkeypatch, clone):
    monkeypatch.setattr(environment, "project_root", lambda: clone)
    assert environment.ensure(["book"]) is None
    assert not (clone / ".venv").exists()


def test_with_something_missing_the_command_goes_to_the_new_environment(
    monkeypatch, clone
):
    monkeypatch.setattr(environment, "project_root", lambda: clone)
    monkeypatch.setattr(environment, "missing_here", lambda root: ["torch"])
    made, called = [], []
    monkeypatch.setattr(environment, "install", lambda v, r: made.append(v))

    def call(command, env):
        called.append(command)
        return 7

    monkeypatch.setattr(environment.subprocess, "call", call)
    assert environment.ensure(["book", "--force"]) == 7
    assert made == [clone / ".venv"]
    assert called[0][1:] == ["-m", "speechlm_lab", "book", "--force"]


def test_an_old_python_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr(environment.sys, "version_info", (3, 10, 1))
    with pytest.raises(environment.SetupError, match="Python 3.11 or newer"):
        environment.ensure(["book"])


def test_the_stamp_comes_last_and_goes_with_the_pins(clone, commands):
    venv = clone / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    assert not environment.is_ready(venv, clone)
    environment.install(venv, clone)
    assert environment.is_ready(venv, clone)
    # somebody's own environment is built upon
    assert not any("venv" in command for command in commands)
    (clone / environment.TORCH_PINS).write_text("torch==9\ntorchaudio==9\n")
    assert not environment.is_ready(venv, clone)
    environment.install(venv, clone)  # so is a finished one
    assert environment.is_ready(venv, clone)
    assert not any("venv" in command for command in commands)


def test_an_interrupted_set_up_leaves_no_stamp(clone, monkeypatch):
    def fail(command, log, title):
        if "--require-hashes" in command:
            raise environment.SetupError("no network")

    monkeypatch.setattr(environment, "_run", fail)
    with pytest.raises(environment.SetupError):
        environment.install(clone / ".venv", clone)
    assert not (clone / ".venv" / "pins.sha256").exists()


def test_an_interrupted_set_up_is_begun_anew(clone, commands, monkeypatch):
    venv = clone / ".venv"

    def stop(command, log, title):
        if "--require-hashes" in command:
            (venv / "half_a_package").touch()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environment, "_run", stop)
        with pytest.raises(KeyboardInterrupt):
            environment.install(venv, clone)
    assert (venv / "half_a_package").exists()
    environment.install(venv, clone)
    assert commands[0][1:3] == ["-m", "venv"]
    assert not (venv / "half_a_package").exists()
    assert not (venv / environment.UNFINISHED).exists()


@pytest.mark.parametrize("gpu", [False, True])
def test_torch_comes_for_the_cpu_or_for_the_gpu(clone, commands, monkeypatch, gpu):
    monkeypatch.setattr(environment, "has_nvidia_gpu", lambda: gpu)
    monkeypatch.setattr(environment.sys, "platform", "linux")
    pip = ["python", "-m", "pip", "install"]
    environment._install_torch(pip, Path("python"), clone, clone / "log")
    version = environment.read_pins(clone / environment.TORCH_PINS)["torch"]
    if gpu:
        assert commands[0][-3:] == [f"torch=={version}", "--torch-backend", "auto"]
    else:
        assert commands[0][-1] == f"torch=={version}+cpu"
    assert commands[-1][-2] == "--no-deps"
    assert commands[-1][-1].startswith("torchaudio==")


def test_torch_falls_back_to_the_plain_wheel(clone, monkeypatch):
    tried = []

    def run(command, log, title):
        tried.append(str(command[-1]))
        if "+cpu" in tried[-1] or tried[-1] == "cpu":
            raise environment.SetupError("no such wheel")

    monkeypatch.setattr(environment, "_run", run)
    monkeypatch.setattr(environment, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(environment.sys, "platform", "linux")
    environment._install_torch(["pip"], Path("python"), clone, clone / "log")
    version = environment.read_pins(clone / environment.TORCH_PINS)["torch"]
    assert tried[2] == f"torch=={version}"


def test_a_failing_command_shows_the_end_of_its_log(tmp_path):
    command = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
    with pytest.raises(environment.SetupError, match="the reason"):
        environment._run(command, tmp_path / "log", "a step")


def test_starts_on_a_bare_interpreter():
    """-S -E: no site-packages. The help needs the standard library only."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-m", "speechlm_lab", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "book" in done.stdout
