"""What `speechlm-lab say` is asked to say, and where to write it."""

import sys
from pathlib import Path


def texts_to_say(
    text: str | None, file: Path | None, out_dir: Path | None, output: str
) -> list[tuple[Path, str]]:
    """Files to write, each with its text.

    The text is `text`, what is in `file` (UTF-8), or standard input, in this order.
    With `out_dir` each of its lines is a text, 1.wav, 2.wav and so on; else all of it
    is one, for `output`. Raises ValueError, with the remedy, where there is none.
    """
    if text is not None and file is not None:
        raise ValueError("give a text or --file, not both")
    if text is None:
        text = _read(file)
    if out_dir is None:
        return [(Path(output), " ".join(text.split()))]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("there is no line to say: write one text on each line")
    digits = len(str(len(lines)))
    return [
        (out_dir / f"{number:0{digits}}.wav", line)
        for number, line in enumerate(lines, 1)
    ]


def _read(file: Path | None) -> str:
    """The text in a file, or in standard input; without a byte order mark."""
    if file is None and sys.stdin is None:
        raise ValueError("there is no standard input: give a text or --file")
    name = file or "standard input"
    try:
        read = sys.stdin.read() if file is None else file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{name} is no text in UTF-8: save it as that") from None
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{name} cannot be read ({reason}): name a text") from None
    return read.removeprefix("\ufeff")
