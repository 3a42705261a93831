"""Spellings that people read as one. Imports only the standard library.

Two texts look alike where they are equal after Unicode's compatibility composition (NFKC), without regard to case, to
the kind of dash and to spaces and underscores, and with the Greek and Cyrillic letters that are drawn as a Latin one
taken for it.
"""

from __future__ import annotations

import re
import unicodedata

#: Latin letter → ends of the names of letters that are drawn like it, as capitals or small.
_CYRILLIC = {
    "a": "A", "b": "VE", "c": "ES", "e": "IE", "h": "EN", "i": "BYELORUSSIAN-UKRAINIAN I", "j": "JE", "k": "KA",
    "m": "EM", "o": "O", "p": "ER", "s": "DZE", "t": "TE", "x": "HA", "y": "U",
}  # fmt: skip
_GREEK = {
    "a": "ALPHA", "b": "BETA", "e": "EPSILON", "h": "ETA", "i": "IOTA", "k": "KAPPA", "m": "MU", "n": "NU",
    "o": "OMICRON", "p": "RHO", "t": "TAU", "x": "CHI", "y": "UPSILON", "z": "ZETA",
}  # fmt: skip
_DRAWN_ALIKE = {
    ord(unicodedata.lookup(f"{script} SMALL LETTER {name}")): latin
    for script, names in (("CYRILLIC", _CYRILLIC), ("GREEK", _GREEK))
    for latin, name in names.items()
}
_SPACES = re.compile(r"[\s_]+")


def looks_of(text: str) -> str:
    r"""What is alike for texts that look alike.

    >>> looks_of("MS-Patient") == looks_of("ms\N{NON-BREAKING HYPHEN}patient")
    True
    >>> looks_of("HC") == looks_of("H\N{CYRILLIC CAPITAL LETTER ES}"), looks_of("HC") == looks_of("MS")
    (True, False)
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_DRAWN_ALIKE)
    dashes = "".join("-" if unicodedata.category(letter) == "Pd" else letter for letter in plain)
    return _SPACES.sub(" ", dashes.replace("\N{MINUS SIGN}", "-"))
