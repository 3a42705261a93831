"""A unit with everything that a page can show, small and synthetic; a browser that tells what it was asked for."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2star.atlas import load_atlas
from r2star.report.facts import NormRange, Region, UnitFacts, Volumes
from r2star.settings import Settings
from r2star.steps.report import page_text

SHAPE = (44, 52, 40)
ECHO_TIMES_S = (0.005, 0.012, 0.025)
BROWSER_FLAGS = (
    "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
    "--hide-scrollbars",
)  # fmt: skip


def make_volumes(seed: int = 0) -> Volumes:
    """A ball of brain with two boxes a side in it; NaN outside the ball."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    brain = x**2 + y**2 + z**2 < 0.8
    labels = np.zeros(SHAPE, np.uint16)
    for index, (low, high) in enumerate(((10, 16), (28, 34), (18, 21), (23, 26)), start=1):
        labels[low:high, 22:32, 16:26] = index
    r2star = np.where(brain, 20 + rng.normal(0, 1, SHAPE), np.nan)
    r2star[labels > 0] += 15
    positive = np.where(brain, rng.uniform(0.5, 2, SHAPE), np.nan)
    maps = {
        "r2star": r2star, "stderr": positive, "residual": positive / 100, "megre": 100 * positive,
        "t1w": 90 * positive, "template": 80 * positive, "b0": np.where(brain, 30 * x, np.nan),
        "gradient": 50 * positive, "bias": positive,
    }  # fmt: skip
    volumes = {name: values.astype(np.float32) for name, values in maps.items()}
    volumes["status"] = np.where(x > 0.6, 7, 0).astype(np.uint8)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-44, -52, -60)
    return Volumes(volumes, labels, brain, affine, (2.0, 2.0, 3.0))


def _region_rows(regions: list[Region]) -> list[dict[str, str]]:
    return [
        {
            "segmentation": "CIT168", "region": region.name, "hemisphere": region.hemisphere,
            "r2star_median_per_s": f"{30 + 5 * k}", "r2star_stderr_per_s": "0.4", "volume_mm3": "1200", "n_valid": "80",
            "coverage": "1", "snr_last_echo": "22", "fit_residual": "0.01", "gradient_bias_per_s": "0.2",
            "warnings": "W465" if k == 1 else "n/a",
        }
        for k, region in enumerate(regions)
    ]  # fmt: skip


def _decay_rows(regions: list[Region]) -> list[dict[str, str]]:
    rows = []
    for region in regions:
        for time in ECHO_TIMES_S:
            numbers = {"signal_median": -35, "signal_p25": -37, "signal_p75": -33}
            numbers |= {"fit_median": -35, "fit_p05": -30, "fit_p95": -40}
            told = {name: f"{np.exp(rate * time):.5g}" for name, rate in numbers.items()}
            rows.append(
                {"region": region.name, "hemisphere": region.hemisphere, "echo_time_s": str(time), **told}
            )
    return rows


def quality_row(
    metric: str, value: str, verdict: str = "pass", part: str = "brain", side: str = "n/a"
) -> dict[str, str]:
    """One row of the table of quality."""
    return {
        "metric": metric,
        "part": part,
        "hemisphere": side,
        "value": value,
        "unit": "n/a",
        "verdict": verdict,
    }


@pytest.fixture(scope="session")
def unit_facts() -> Callable[..., UnitFacts]:
    """A complete unit; keyword arguments replace what it holds."""

    def make(**given: Any) -> UnitFacts:
        atlas = load_atlas("CIT168")
        names = [("putamen", "L"), ("putamen", "R"), ("pallidum", "L"), ("pallidum", "R")]
        regions = [Region(name, side, k) for k, (name, side) in enumerate(names, start=1)]
        folder = Path("elsewhere")
        label = str(given.get("label", "sub-01"))
        facts: dict[str, Any] = {
            "label": label, "entities": {"sub": "01"}, "state": "ok_warn", "version": "0.1.0",
            "settings": Settings(folder, folder, folder).result_settings(),
            "notices": [{"code": "W202", "message": "no field strength", "fix": "add it", "path": "x.json"}],
            "inputs": {
                "sub-01/anat/sub-01_T1w.nii.gz": "ab" * 32, "sub-01/anat/sub-01_echo-1_MEGRE.nii.gz": "cd" * 32,
            },
            "outputs": {
                "sub-01/anat/sub-01_R2starmap.nii.gz": "ef" * 32,
                "sub-01/fmap/sub-01_desc-B0_fieldmap.nii.gz": "01" * 32,
                "sub-01/anat/sub-01_desc-gradientbias_R2starmap.nii.gz": "02" * 32,
            },
            "acquisition": {"EchoTime": list(ECHO_TIMES_S), "MagneticFieldStrength": 3.0},
            "software": {"antspyx": "0.6.3"},
            "quality": [
                quality_row("snr_first_echo", "60"),
                quality_row("echo_shift_mm", "0.8", "doubtful"),
                quality_row("coverage", "0.85", "doubtful", "putamen", "L"),
                quality_row("registration_box_similarity", "0.7", "pass", "T1w_to_template"),
            ],
            "region_rows": _region_rows(regions), "decay": _decay_rows(regions), "regions": regions,
            "atlas": {"name": atlas.name, "space": atlas.space, "citation": atlas.citation},
            "voxel_rule": "Voxels of the label, with a finite R2*.",
            "norms": {"putamen": NormRange(24, 31, "Healthy adults")}, "volumes": make_volumes(),
        }  # fmt: skip
        return UnitFacts(**{**facts, **given})

    return make


@pytest.fixture(scope="session")
def failed_unit() -> UnitFacts:
    """A unit without a result."""
    error = {
        "code": "E109", "found": "the file is cut off", "needed": "a whole file is needed", "fix": "copy it again",
        "path": "sub-01/ses-2/anat/sub-01_ses-2_echo-1_MEGRE.nii.gz",
    }  # fmt: skip
    return UnitFacts("sub-01_ses-2", {"sub": "01", "ses": "2"}, "failed_input", "0.1.0", error=error)


@pytest.fixture(scope="session")
def page(unit_facts: Callable[..., UnitFacts], failed_unit: UnitFacts) -> str:
    """The page of a participant with a complete unit and a failed one."""
    return page_text("01", [unit_facts(), failed_unit])


@dataclass
class Visit:
    """A page in a browser, and what the browser told."""

    driver: Any
    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)

    def collect(self) -> None:
        """Take over the browser's logs: requests beyond the page itself, and what the console said of errors."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if (
                    not url.startswith("data:")
                    and url.partition("#")[0] != self.driver.current_url.partition("#")[0]
                ):
                    self.requests.append(url)
        self.console += [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in ("WARNING", "SEVERE")
        ]

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script."""
        return self.driver.execute_script(script, *arguments)

    def faults(self) -> list[str]:
        """What axe-core finds of serious and critical faults."""
        axe = gzip.decompress((Path(__file__).parent / "axe.min.js.gz").read_bytes()).decode()
        # through the debugger, which the page's policy does not bind
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})
        asked = {"expression": "axe.run().then((r) => JSON.stringify(r.violations))", "awaitPromise": True}
        found = json.loads(self.driver.execute_cdp_cmd("Runtime.evaluate", asked)["result"]["value"])
        return [
            f"{one['id']}: {node['html'][:120]}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    """Open a page in headless Chromium; skips where there is none."""
    chromium, helper = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or helper is None:
        pytest.skip("Debian's chromium and chromium-driver are not installed")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    opened = []

    def visit(
        page: Path | str, *, dark: bool = False, width: int = 1280, media: Mapping[str, str] | None = None
    ) -> Visit:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*BROWSER_FLAGS, f"--user-data-dir={tmp_path / f'profile-{len(opened)}'}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(helper))
        opened.append(driver)
        wanted = {"prefers-color-scheme": "dark" if dark else "light", **(media or {})}
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        if isinstance(page, str):
            path = tmp_path / f"page-{len(opened)}.html"
            path.write_text(page, encoding="utf-8")
            page = path
        driver.get_log("performance")  # what the browser's own first tab asked for
        driver.get(page.resolve().as_uri())
        return Visit(driver)

    yield visit
    for driver in opened:
        driver.quit()
