"""A participant's page: all sections, inert whatever the files say, equal for equal facts, and no face on it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from r2star.report.facts import UnitFacts
from r2star.report.participant import SECTIONS, maps, viewer
from r2star.report.pictures import Layer, cuts_through, draw_cuts
from r2star.steps.report import page_text

HOSTILE = "<script>alert(1)</script>\"'`onerror=x\u202egnp.\u2066"
Make = Callable[..., UnitFacts]


class _Elements(HTMLParser):
    """Names of elements, their ids, links and inline handlers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("href", "src"):
                self.links.append(value or "")
            elif name.startswith("on") or name == "style":
                self.handlers.append(name)


def test_every_section_is_there_and_every_link_leads_somewhere(page: str) -> None:
    elements = _Elements(page)
    for name in SECTIONS:
        assert f"sub-01-{name}" in elements.ids
    assert len(set(elements.ids)) == len(elements.ids)
    for link in elements.links:
        assert link.startswith(("data:image/", "#", "logs/reports/")), link[:60]
        if link.startswith("#"):
            assert link[1:] in elements.ids
    assert elements.handlers == []


def test_equal_facts_give_equal_pages(unit_facts: Make, failed_unit: UnitFacts, page: str) -> None:
    assert page_text("01", [failed_unit, unit_facts()]) == page


def test_the_policy_lets_in_the_pages_own_scripts_and_nothing_else(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    allowed = policy[1].replace("&#39;", "'")
    assert allowed.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in allowed
    for pattern in (r"<style>(.*?)</style>", r"<script>(.*?)</script>"):
        (inside,) = re.findall(pattern, page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in allowed
    packed = re.search(r'id="niivue">([^<]*)<', page)
    assert packed is not None
    library = gzip.decompress(base64.b64decode(packed[1]))
    assert base64.b64encode(hashlib.sha256(library).digest()).decode() in allowed


def test_hostile_text_is_only_text(unit_facts: Make, failed_unit: UnitFacts, page: str) -> None:
    plain = _Elements(page)
    hostile = unit_facts(
        notices=[{"code": HOSTILE, "message": HOSTILE, "fix": HOSTILE, "path": HOSTILE}],
        inputs={f"{HOSTILE}_T1w.nii.gz": HOSTILE, "b": "c"},
        software={HOSTILE: HOSTILE},
        voxel_rule=HOSTILE,
        settings={**unit_facts().settings, "atlases": [HOSTILE]},
    )
    broken = UnitFacts(
        failed_unit.label, failed_unit.entities, "failed_input", HOSTILE,
        error={"code": HOSTILE, "found": HOSTILE, "needed": HOSTILE, "fix": HOSTILE, "path": HOSTILE},
    )  # fmt: skip
    text = page_text("01", [hostile, broken])
    found = _Elements(text)
    assert sorted(found.names) == sorted(plain.names)
    assert found.handlers == []
    assert "<script>alert" not in text
    assert not set("\u202e\u2066") & set(text)


def test_a_failed_unit_has_what_happened_and_what_to_do(page: str, failed_unit: UnitFacts) -> None:
    text = page_text("01", [failed_unit])
    for part in ("R2S-E109", "the file is cut off", "copy it again", "echo-1_MEGRE.nii.gz", "no result"):
        assert part in text
    assert "niivue" not in text  # nothing to view
    assert page.index('id="sub-01"') < page.index('id="sub-01-ses-2"')


def test_the_verdict_says_why_and_what_to_do(unit_facts: Make, page: str) -> None:
    assert unit_facts().verdict == "doubtful"
    assert page.index("Usable, but look") < page.index("R2S-W202")
    assert "Coverage (Putamen, left)" in page
    assert "85.0 %" in page


def test_left_of_the_head_is_left_in_the_picture(unit_facts: Make) -> None:
    facts = unit_facts()
    volumes = facts.volumes
    assert volumes is not None
    values = np.where(volumes.brain, 0.2, np.nan)
    values[:12] = np.where(volumes.brain[:12], 1.0, np.nan)  # RAS+: low x is left
    (cut,) = cuts_through(volumes.brain, 2, 1)
    uri = draw_cuts(volumes, Layer(values, "gray", 0, 1), [cut], columns=1, bar=False)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("L"), float)
    middle = picture.shape[0] // 2
    row = picture[middle - 40]  # away from the letters
    bright = np.flatnonzero(row > 200)
    assert bright.size > 10
    assert bright.max() < picture.shape[1] / 2


def test_front_is_up_in_an_axial_slice(unit_facts: Make) -> None:
    volumes = unit_facts().volumes
    assert volumes is not None
    values = np.where(volumes.brain, 0.2, np.nan)
    values[:, 40:] = np.where(volumes.brain[:, 40:], 1.0, np.nan)
    (cut,) = cuts_through(volumes.brain, 2, 1)
    uri = draw_cuts(volumes, Layer(values, "gray", 0, 1), [cut], columns=1, bar=False)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("L"), float)
    bright = np.flatnonzero(picture[:, picture.shape[1] // 2] > 200)
    assert bright.size > 10
    assert bright.max() < picture.shape[0] / 2


def test_nothing_outside_the_brain_reaches_the_viewer(unit_facts: Make) -> None:
    facts = unit_facts()
    told = viewer.make(facts)
    assert told is not None
    assert facts.volumes is not None
    image = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(told["r2star"])))
    values = image.get_fdata()
    assert np.all(values[~facts.volumes.brain] == 0)
    inside = facts.volumes.maps["r2star"][facts.volumes.brain]
    step = maps.top_of_scale(facts) / viewer.STEPS
    np.testing.assert_allclose(values[facts.volumes.brain], inside, atol=0.51 * step)
    np.testing.assert_allclose(image.affine, facts.volumes.affine)


def test_many_units_get_smaller_volumes(unit_facts: Make) -> None:
    facts = unit_facts(max_viewer_voxels=20_000)
    told = viewer.make(facts)
    assert told is not None
    image = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(told["r2star"])))
    assert np.prod(image.shape) <= 20_000
    np.testing.assert_allclose(image.header.get_zooms()[0] % 2.0, 0)


def test_a_template_of_ones_own_leaves_out_its_picture_alone(unit_facts: Make) -> None:
    unit = unit_facts()
    assert unit.volumes is not None
    maps = {name: values for name, values in unit.volumes.maps.items() if name != "template"}
    page = page_text("01", [replace(unit, volumes=replace(unit.volumes, maps=maps))])
    assert "T1-weighted image, brought to the grid" in page
    assert "Template, brought to the grid" not in page


def test_maps_alone_show_no_picture(unit_facts: Make) -> None:
    settings = {**unit_facts().settings, "fit_only": True}
    facts = unit_facts(volumes=None, regions=[], region_rows=[], decay=[], atlas={}, settings=settings)
    text = page_text("01", [facts])
    assert "data:image" not in text
    assert "show the face" in text


@pytest.mark.parametrize("field_tesla", [1.5, 3.0, 7.0])
def test_the_colour_scale_grows_with_field(unit_facts: Make, field_tesla: float) -> None:
    facts = unit_facts(acquisition={"EchoTime": [0.005, 0.01], "MagneticFieldStrength": field_tesla})
    assert maps.top_of_scale(facts) == pytest.approx(20 * field_tesla)
