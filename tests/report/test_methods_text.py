"""The methods text tells what was run: a sentence for each setting, right for each of its values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from r2star.fit import METHODS
from r2star.report.facts import UnitFacts
from r2star.report.methods import REFERENCES, SENTENCES, methods_text, references_in
from r2star.settings import Settings

Make = Callable[..., UnitFacts]
FOLDER = Path("elsewhere")
#: Setting → value → (what the text must say, what it must not).
TOLD: dict[str, dict[Any, tuple[str, str]]] = {
    "fit_method": {
        "loglinear": ("ordinary least squares of the logarithm", "[Golub 1973]"),
        "weighted": ("weighted by the squared fitted signal [Edwards 2022]", "[Golub 1973]"),
        "arlo": (
            "auto-regression on linear operations of the evenly spaced echoes [Pei 2015]",
            "[Golub 1973]",
        ),
        "nonlinear": ("variable projection [Golub 1973]", "[Feng 2013]"),
        "rician": ("first moment of their noise distribution [Feng 2013]", "[Golub 1973]"),
    },
    "field_gradient": {
        "off": ("R2* and S0", "static field"),
        "report": ("R2* was not corrected for it", "|F(t)|"),
        "correct": ("S(t) = S0·exp(−R2*·t)·|F(t)|", "not corrected"),
    },
    "sloppy": {
        True: ("at 4 mm with a rough schedule meant for tests only (--sloppy)", "refined the deformation"),
        False: ("in a box around the regions at 1 mm", "--sloppy"),
    },
    "xform": {
        None: ("shape, grid, orientation", "--xform"),
        "sform": ("the sform was used", "the qform was"),
        "qform": ("the qform was used", "the sform was"),
    },
    "assume_orientation": {
        True: ("--assume-orientation", "\0"),
        False: ("shape, grid, orientation", "--assume-orientation"),
    },
    "random_seed": {7: ("random seed 7", "20140"), 20140: ("random seed 20140", "\0")},
    "denoise": {"mppca": ("[Veraart 2016]", "\0"), "none": ("R2* and S0", "denoised")},
    "atlases": {
        ("CIT168",): ("regions of the atlas CIT168", "atlases"),
        ("CIT168", "mine.toml"): ("regions of the atlases CIT168, mine.toml", "--segmentation"),
        (): ("regions of the segmentation", "of the atlas"),
    },
    "anatomical_reference": {
        "first-lex": ("share the first one's T1-weighted image", "has its own"),
        "sessionwise": ("Each session has its own T1-weighted image", "share the first"),
    },
    "segmentations": {
        ("aseg",): ("taken from the segmentation aseg (--segmentation)", "\0"),
        (): ("atlas", "--segmentation"),
    },
    "brain_mask": {
        "synthstrip": ("that of synthstrip (--brain-mask)", "\0"),
        None: ("atlas", "--brain-mask"),
    },
    "lesions": {"lst": ("the lesions of lst were left out", "\0"), None: ("atlas", "lesions of")},
    "maps": {
        ("Chimap", "T1map"): ("The maps Chimap, T1map were summarised", "\0"),
        (): ("atlas", "--maps"),
    },
    "iron": {"gelman1999": ("by the calibration gelman1999 (--iron)", "\0"), None: ("atlas", "--iron")},
    "fit_only": {
        True: ("no regions were measured", "ANTs"),
        False: ("regions of the atlas CIT168", "no regions"),
    },
}


def settings_with(**given: Any) -> dict[str, Any]:
    return replace(Settings(FOLDER, FOLDER, FOLDER), **given).result_settings()


def test_there_is_a_sentence_for_every_setting_that_changes_a_result() -> None:
    told = {name for sentence in SENTENCES.values() for name in sentence.settings}
    assert told == set(Settings(FOLDER, FOLDER, FOLDER).result_settings())


def test_every_estimator_has_its_words() -> None:
    assert set(TOLD["fit_method"]) == set(METHODS)


def test_every_setting_is_tried() -> None:
    # the hashes of files are told with what went in
    assert set(TOLD) == set(Settings(FOLDER, FOLDER, FOLDER).result_settings()) - {"content"}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in TOLD.items() for value in values]
)
def test_the_text_says_what_was_set(unit_facts: Make, name: str, value: Any) -> None:
    text = methods_text(unit_facts(settings=settings_with(**{name: value})))
    expected, forbidden = TOLD[name][value]
    assert expected in text
    assert forbidden not in text


def test_without_a_t1w_the_session_that_places_the_others_is_told(unit_facts: Make) -> None:
    names = [f"sub-01/ses-{n}/anat/sub-01_ses-{n}_echo-1_MEGRE.nii.gz" for n in ("1", "2")]
    entities = {"sub": "01", "ses": "2"}
    text = methods_text(unit_facts(entities=entities, inputs=dict.fromkeys(names, "0" * 64)))
    assert "the echoes of the participant's first session was registered to the template" in text
    assert "That of this session was registered rigidly to it." in text
    alone = methods_text(unit_facts(entities=entities, inputs={names[1]: "0" * 64}))
    assert "first session" not in alone


def test_no_field_is_told_of_without_phase(unit_facts: Make) -> None:
    outputs = {"sub-01/anat/sub-01_R2starmap.nii.gz": "0" * 64}
    for asked in ("off", "report", "correct"):
        text = methods_text(unit_facts(outputs=outputs, settings=settings_with(field_gradient=asked)))
        assert "static field" not in text
        assert "F(t)" not in text


def test_a_correction_that_was_not_possible_is_not_claimed(unit_facts: Make) -> None:
    outputs = {"sub-01/fmap/sub-01_desc-B0_fieldmap.nii.gz": "0" * 64}
    text = methods_text(unit_facts(outputs=outputs, settings=settings_with(field_gradient="correct")))
    assert "F(t)" not in text
    assert "did not tell what a correction" in text


def test_without_a_t1w_none_is_told_of(unit_facts: Make) -> None:
    text = methods_text(unit_facts(inputs={"sub-01/anat/sub-01_echo-1_MEGRE.nii.gz": "0" * 64}))
    assert "There was no T1-weighted image" in text


def test_two_echoes_have_no_residual(unit_facts: Make) -> None:
    facts = unit_facts(acquisition={"EchoTime": [0.00519, 0.00765]})
    text = methods_text(facts)
    assert "2 echoes (echo times 5.19, 7.65 ms)" in text
    assert "noise of the background" in text
    assert "from the residuals" not in text


def test_what_denoising_did_to_the_residuals_is_told(unit_facts: Make) -> None:
    acquisition = {"EchoTime": [0.004, 0.008, 0.012], "Denoising": {"ResidualRatio": 0.8123}}
    for setting, told in (("mppca", True), ("none", False)):
        text = methods_text(unit_facts(acquisition=acquisition, settings=settings_with(denoise=setting)))
        assert ("the fit's residuals became 0.8123 times what they were." in text) == told


def test_a_setting_without_a_sentence_is_told_by_its_name(unit_facts: Make) -> None:
    text = methods_text(unit_facts(settings={**settings_with(), "newest_option": "on"}))
    assert "Further settings: newest_option = on." in text


def test_every_citation_has_its_reference_and_is_listed_once(unit_facts: Make) -> None:
    for method in METHODS:
        text = methods_text(unit_facts(settings=settings_with(fit_method=method, field_gradient="correct")))
        keys = [key for key, _ in references_in([text])]
        assert len(set(keys)) == len(keys) >= 5
        assert set(keys) <= set(REFERENCES)
