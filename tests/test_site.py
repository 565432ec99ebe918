"""The built site as a visitor has it: opened from disk, with no host to reach.

Runs on what `python -m speechlm_lab book` has built, in headless Chromium. Without
either, one line says so.
"""

import base64
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
# what the theme's scripts say, on every site made with it
THEIRS = re.compile(
    r"THEBE_JS_URL|\[PST\]|_static/(togglebutton|scripts/pydata-sphinx-theme)\.js"
)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PAGES = sorted(SITE.glob("book/*.html")) + sorted(SITE.glob("chapters/*.html"))

pytestmark = pytest.mark.skipif(
    not PAGES, reason="no built site: run python -m speechlm_lab book"
)
in_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: install it to test the pages in a browser"
)


def open_page(address: str, profile: Path) -> tuple[str, str]:
    """The page as it is after its scripts have run, and what the console said."""
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
        + ["--disable-background-networking", "--disable-component-update"]
        + ["--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND"]
        + ["--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom"]
        + [f"--user-data-dir={profile}", address],
        capture_output=True,
        text=True,
        timeout=120,
    )
    console = [
        line
        for line in done.stderr.splitlines()
        if "CONSOLE" in line and not THEIRS.search(line)
    ]
    return done.stdout, "\n".join(console)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
class TestPage:
    def test_every_picture_has_alt_text(self, page):
        for tag in re.findall(r"<img\b[^>]*>", page.read_text()):
            assert re.search(r'\balt="[^"]+"', tag), tag[:120]

    def test_every_sound_decodes_and_is_labelled(self, page):
        for tag in re.findall(r"<audio\b[^>]*>", page.read_text()):
            assert re.search(r'\baria-label="[^"]+"', tag)
            assert "autoplay" not in tag
            data = re.search(r'src="data:audio/flac;base64,([^"]+)"', tag)[1]
            wave, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
            assert len(wave) > 0.05 * rate and abs(wave).max() > 1e-3

    def test_no_address_is_fetched_when_the_page_opens(self, page):
        text = page.read_text()
        fetched = re.findall(r'<(?:script|img|audio|iframe)\b[^>]*src="(\w+:)', text)
        fetched += re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="(\w+:)', text)
        assert set(fetched) <= {"data:"}

    @in_browser
    def test_the_page_works_without_a_network(self, page, tmp_path):
        text, console = open_page(page.as_uri(), tmp_path)
        assert not console
        formulas = len(re.findall(r'class="math [^"]*"', page.read_text()))
        rendered = text.count("<mjx-container")
        assert rendered >= formulas, f"{rendered} of {formulas} formulas"
        assert "<mjx-merror" not in text
        assert len(re.findall(r'class="[^"]*search-field', text)) <= 1


@in_browser
def test_search_finds_a_chapter(tmp_path):
    address = (SITE / "search.html").as_uri() + "?q=spectrogram"
    text, console = open_page(address, tmp_path)
    assert "chapters/01_spectrograms.html" in text
    assert not console


@in_browser
def test_players_load_from_disk(tmp_path):
    """All sounds of a chapter become playable: the browser reports a duration."""
    page = SITE / "chapters" / "00_start_here.html"
    tags = re.findall(r"<audio\b[^>]*></audio>", page.read_text())
    assert tags
    script = """<script>for (const a of document.querySelectorAll("audio"))
      a.onloadedmetadata = () => a.setAttribute("data-seconds", a.duration)</script>"""
    trial = tmp_path / "players.html"
    left = tags
    for _ in range(12):  # a slow machine does not get through all in one go
        trial.write_text("<!doctype html>" + "\n".join(left) + script)
        text, _ = open_page(trial.as_uri(), tmp_path / "profile")
        found = re.findall(r"<audio\b[^>]*></audio>", text)
        assert len(found) == len(left)
        pairs = zip(left, found, strict=True)
        left = [tag for tag, now in pairs if not re.search(r'data-seconds="[\d.]', now)]
        if not left:
            break
    assert not left
