"""The synthesiser: one call, one result; its times are true."""

import threading

import numpy as np
import pytest

from speechlm_lab.corpus import espeak
from speechlm_lab.corpus.voices import sample_voice, voice_lines

A, B = (voice_lines(sample_voice(n)) for n in (1, 2))


def energy(wave, span):
    """Mean power of a span at the synthesiser's rate."""
    rate = espeak.NATIVE_RATE
    return float(np.mean(wave[int(span.start * rate) : int(span.end * rate)] ** 2))


def test_same_call_gives_same_bits_whatever_came_between():
    rough = "pitch 90 130\nflutter 6\nroughness 5\nbreath 0 4 4 4\n"
    first = espeak.synthesize("One two three.", rough, 170, seed=5)
    espeak.synthesize("Something else, much longer, and louder!", B, 250, 150, seed=9)
    espeak.ipa("Another thing.")
    again = espeak.synthesize("One two three.", rough, 170, seed=5)
    assert np.array_equal(first.wave, again.wave)
    assert first.phones == again.phones and first.words == again.words


def test_the_seed_changes_breath_noise():
    breathy = "breath 0 20 20 20\n"
    one, two = (espeak.synthesize("A breath.", breathy, seed=s).wave for s in (1, 2))
    assert not np.array_equal(one, two)


def test_threads_do_not_disturb_one_another():
    alone = [espeak.synthesize(f"Number {i}.", A).wave for i in range(6)]
    results = {}

    def work(i):
        results[i] = espeak.synthesize(f"Number {i}.", A).wave

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(alone[i], results[i]) for i in range(6))


def test_every_word_has_a_span_in_order():
    text = "He is one of the best, out of all of us; I am going to be at the café."
    speech = espeak.synthesize(text, A)
    labels = [word.label for word in speech.words]
    assert labels == [w.strip(",;.") for w in text.split()]
    for one, two in zip(speech.words, speech.words[1:], strict=False):
        assert one.start < one.end <= two.start + 1e-9


def test_numbers_and_signs_are_one_word_as_written():
    speech = espeak.synthesize("In 1984 we paid 12,345 for 50% of it.", A)
    assert [word.label for word in speech.words] == [
        "In", "1984", "we", "paid", "12,345", "for", "50%", "of", "it",
    ]  # fmt: skip
    longest = max(speech.words, key=lambda w: w.duration)
    assert longest.label == "12,345"


def test_phones_fill_their_words():
    speech = espeak.synthesize("A quick brown fox jumps.", A)
    for word in speech.words:
        inside = [p for p in speech.phones if word.start <= p.start < word.end]
        assert inside and inside[0].start == word.start
        assert inside[-1].end == word.end


def test_phone_times_agree_with_the_sound():
    # independent of the events: hissing phones have their energy high, vowels low
    speech = espeak.synthesize("She sees six ships, so she sails south.", A)
    rate = espeak.NATIVE_RATE
    centroids = {True: [], False: []}
    for phone in speech.phones:
        hiss = phone.label in ("s", "ʃ")
        if not hiss and phone.label[0] not in "iɪaɑəoʊ":
            continue
        middle = phone.start + phone.duration / 2
        cut = speech.wave[int(middle * rate) - 220 : int(middle * rate) + 220]
        power = np.abs(np.fft.rfft(cut * np.hanning(len(cut)))) ** 2
        hertz = np.fft.rfftfreq(len(cut), 1 / rate)
        centroids[hiss].append((power * hertz).sum() / power.sum())
    assert len(centroids[True]) >= 6 and len(centroids[False]) >= 6
    assert min(centroids[True]) > max(centroids[False])


def test_every_phone_lasts():
    # the library gives no time of its own to an l after a vowel
    speech = espeak.synthesize("Help, all eleven calm wolves fell.", A)
    assert sum(phone.label == "l" for phone in speech.phones) == 5
    assert min(phone.duration for phone in speech.phones) > 0.01
    for one, two in zip(speech.phones, speech.phones[1:], strict=False):
        assert one.end <= two.start + 1e-9


def test_pauses_belong_to_no_phone():
    speech = espeak.synthesize("Stop. Go on.", A)
    stop, go = speech.words[0], speech.words[1]
    assert go.start - stop.end > 0.1
    rate = espeak.NATIVE_RATE
    pause = speech.wave[int((stop.end + 0.08) * rate) : int((go.start - 0.02) * rate)]
    assert np.mean(pause**2) < 1e-3 * energy(speech.wave, go)


def test_rate_changes_duration():
    slow, fast = (espeak.synthesize("A long sentence.", A, r) for r in (120, 240))
    assert slow.phones[-1].end > 1.5 * fast.phones[-1].end


def test_ipa():
    assert espeak.ipa("hello world") == "həlˈoʊ wˈɜːld"
    assert espeak.ipa("Yes, no. Maybe?").split() == ["jˈɛs", "nˈoʊ", "mˈeɪbiː"]


def test_a_voice_that_is_too_long_is_refused():
    with pytest.raises(espeak.EspeakError, match="longer than"):
        espeak.synthesize("a", "formant 1 100\n" * 500)
    assert len(espeak.synthesize("still works", A).words) == 2
