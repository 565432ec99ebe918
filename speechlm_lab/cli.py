"""The command line: ``python -m speechlm_lab`` and ``speechlm-lab``.

Only the standard library is imported at the top: the first command of all has
to run before anything is installed.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from speechlm_lab import environment

EPILOG = """\
The first command sets the environment up: .venv in the clone, or none where the
dependencies are there already. Later ones start at once.
"""


def _clone() -> Path:
    root = environment.project_root()
    if root is None:
        raise environment.SetupError(
            "this command works in a clone of the project: the installed package "
            "has no chapters"
        )
    return root


def _book(options: argparse.Namespace) -> int:
    from speechlm_lab import building

    started = time.monotonic()
    print("Building the book")
    try:
        page = building.build_book(_clone(), force=options.force)
    except building.BuildError as error:
        print(f"\nbook: {error}", file=sys.stderr)
        return 1
    print(f"The book: {page} ({time.monotonic() - started:.0f} s)")
    return 0


def _test(options: argparse.Namespace) -> int:
    from speechlm_lab import building

    started = time.monotonic()
    status = building.run_tests(_clone(), options.extra)
    verdict = "passed" if status == 0 else "failed"
    print(f"The tests {verdict} ({time.monotonic() - started:.0f} s)")
    return status


def _lab(options: argparse.Namespace) -> int:
    from speechlm_lab import building

    root = _clone()
    command = [sys.executable, "-m", "jupyterlab", "--notebook-dir", str(root)]
    try:
        return subprocess.call(
            [*command, *options.extra], env=building.subprocess_environment(root)
        )
    except KeyboardInterrupt:
        return 0


def _outputs(options: argparse.Namespace) -> int:
    from speechlm_lab import building

    try:
        building.refresh_outputs(_clone(), options.chapters)
    except building.BuildError as error:
        print(f"outputs: {error}", file=sys.stderr)
        return 1
    return 0


def _pins(options: argparse.Namespace) -> int:
    from speechlm_lab import pins

    pins.refresh(_clone())
    print("refreshed requirements.lock and environment.yml")
    return 0


def _clean(options: argparse.Namespace) -> int:
    from speechlm_lab import building

    removed = building.clean(_clone())
    for path in removed:
        print(f"removed {path}")
    if not removed:
        print("nothing to remove")
    return 0


def _synth(options: argparse.Namespace) -> int:
    from speechlm_lab import audio
    from speechlm_lab.corpus import tiny_voices

    speaker = options.speaker
    item = tiny_voices.speak(
        options.text,
        speaker=int(speaker) if speaker.lstrip("-").isdecimal() else speaker,
        emotion=options.emotion,
        seed=options.seed,
        scene=options.scene,
    )
    audio.save(options.output, item.wave, item.sample_rate)
    seconds = len(item.wave) / item.sample_rate
    print(f"{options.output}: {seconds:.2f} s, {item.sample_rate} Hz")
    return 0


def _say(options: argparse.Namespace) -> int:
    from speechlm_lab import audio, layout
    from speechlm_lab.saying import texts_to_say
    from speechlm_lab.speechlm import SpeechLM
    from speechlm_lab.whole_files import check_apart, check_target

    texts = texts_to_say(options.text, options.file, options.out_dir, options.output)
    for output, text in texts:  # before an hour's work finds out about line 99
        try:
            layout.read(text, options.emotion)
        except ValueError as error:
            raise ValueError(f"{output.name}: {error}") from None
        for source in (options.voice, options.file):
            if source is not None:
                check_apart(source, output)
    if not -(2**63) <= options.seed < 2**63:
        raise ValueError(f"the seed {options.seed} has more than 64 bits: take less")
    model = SpeechLM.from_pretrained(options.model)
    voice = options.voice
    if voice is not None and not voice.removeprefix("held-out:").isdecimal():
        voice = audio.load(voice, model.sample_rate)
    voice = model.hear(voice)
    if options.out_dir is not None:
        options.out_dir.mkdir(parents=True, exist_ok=True)
    for output, _ in texts:
        audio.check_format(output)
        check_target(output)
    for output, text in texts:
        said = model.speak(text, voice, options.emotion, options.seed)
        audio.save(output, said.wave, model.sample_rate)
        print(f"{output}: {len(said.wave) / model.sample_rate:.2f} s", flush=True)
    return 0


def _encode(options: argparse.Namespace) -> int:
    import json

    from speechlm_lab.codec import files

    header = files.encode_file(
        options.input,
        options.output,
        files.load_codec(options.codec),
        levels=options.levels,
        max_bitrate=options.max_bitrate,
    )
    report = {"output": options.output, **header.report()}
    if options.json:
        print(json.dumps(report))
    else:
        print(
            "{output}: {seconds:.2f} s, {levels} levels, {bitrate:g} bit/s, "
            "{bytes} bytes".format(**report)
        )
    return 0


def _decode(options: argparse.Namespace) -> int:
    from speechlm_lab.codec import files

    header = files.decode_file(
        options.input,
        options.output,
        files.load_codec(options.codec),
        original_rate=options.original_rate,
    )
    rate = header.original_rate if options.original_rate else header.sample_rate
    line = f"{options.output}: {header.seconds:.2f} s, {rate} Hz"
    if rate != header.original_rate:
        line += f" (the original: {header.original_rate} Hz; --original-rate)"
    print(line)
    return 0


def _train(options: argparse.Namespace) -> int:
    from speechlm_lab import recipes

    return recipes.main(options.extra)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="speechlm-lab",
        description="The SpeechLM Playbook: build it, test it, use it.",
        epilog=EPILOG,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    book = commands.add_parser("book", help="execute what is stale, build the site")
    book.add_argument("--force", action="store_true", help="execute every chapter")
    book.set_defaults(run=_book)

    test = commands.add_parser("test", help="lint, unit tests, every chapter")
    test.set_defaults(run=_test, passes_on="pytest, for example -k spectral")

    lab = commands.add_parser("lab", help="JupyterLab on the chapters")
    lab.set_defaults(run=_lab, passes_on="jupyter lab")

    outputs = commands.add_parser(
        "outputs", help="for authors: store the outputs that the tests compare"
    )
    outputs.add_argument("chapters", nargs="*", help="such as 01; default all")
    outputs.set_defaults(run=_outputs)

    pins = commands.add_parser(
        "pins", help="for maintainers: refresh requirements.lock, environment.yml"
    )
    pins.set_defaults(run=_pins)

    clean = commands.add_parser("clean", help="remove what book and test made")
    clean.set_defaults(run=_clean)

    synth = commands.add_parser("synth", help="let a TinyVoice say a text")
    synth.add_argument("text", help="what to say; tags such as [laugh] are sounds")
    synth.add_argument("--speaker", default="0", help="17, or held-out:3 (default 0)")
    synth.add_argument("--emotion", default="neutral", help="default neutral")
    synth.add_argument("--scene", help="a background, for example rain")
    synth.add_argument("--seed", type=int, default=0, help="another reading")
    synth.add_argument("-o", "--output", default="out.wav", help="default out.wav")
    synth.set_defaults(run=_synth)

    say = commands.add_parser("say", help="let the language model say a text")
    say.add_argument("text", nargs="?", help="default: from standard input")
    say.add_argument("--file", type=Path, help="a file with the text")
    say.add_argument("--out-dir", type=Path, help="say each line, as 1.wav, 2.wav ...")
    say.add_argument(
        "--voice",
        help="a sound file to speak like, or a TinyVoices speaker, such as 17",
    )
    say.add_argument("--emotion", default="any", help="default: any")
    say.add_argument("--seed", type=int, default=0, help="another reading")
    say.add_argument("--model", metavar="FOLDER", help="default: the shipped one")
    say.add_argument("-o", "--output", default="out.wav", help="default out.wav")
    say.set_defaults(run=_say)

    encode = commands.add_parser("encode", help="sound file to codes")
    encode.add_argument("input", help="wav, flac, ogg, mp3, ...: any length and rate")
    encode.add_argument("-o", "--output", required=True, help="the .codes file")
    amount = encode.add_mutually_exclusive_group()
    amount.add_argument("--levels", type=int, metavar="K", help="default: all")
    amount.add_argument(
        "--max-bitrate",
        type=float,
        metavar="B",
        help="keep as many levels as fit into B bit/s",
    )
    encode.add_argument("--json", action="store_true", help="report as a JSON line")
    encode.add_argument("--codec", metavar="FOLDER", help="default: the shipped one")
    encode.set_defaults(run=_encode)

    decode = commands.add_parser("decode", help="codes to sound file, 16 kHz mono")
    decode.add_argument("input", help="a file that encode wrote")
    decode.add_argument("-o", "--output", required=True, help=".wav, .flac or .ogg")
    decode.add_argument(
        "--original-rate",
        action="store_true",
        help="write at the rate that the encoded file had",
    )
    decode.add_argument("--codec", metavar="FOLDER", help="default: the shipped one")
    decode.set_defaults(run=_decode)

    train = commands.add_parser(
        "train", help="train a model by its recipe", add_help=False
    )
    train.set_defaults(run=_train, passes_on="recipes, which know their options")
    return parser


def _end(*_: object) -> None:
    """On SIGTERM: as an exception, so that half-written files are cleared away."""
    raise SystemExit(128 + signal.SIGTERM)


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns its exit status; says in one line what is wrong
    when the input is."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    options, extra = parser.parse_known_args(arguments)
    if extra and not hasattr(options, "passes_on"):
        parser.error(f"not understood: {' '.join(extra)}")
    options.extra = extra
    # a training ends after its step; where it waits for others, no handler would run
    trains = options.command == "train"
    if not trains and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)
    try:
        status = environment.ensure(arguments)
        return options.run(options) if status is None else status
    except (environment.SetupError, ValueError, OSError) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{options.command}: stopped", file=sys.stderr)
        return 130
