"""The graphs of units: every connection is declared, and every combination of inputs and settings makes a graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.bids.find import find_units
from r2star.bids.units import Derived, Role, Unit, World
from r2star.errors import UsageError
from r2star.images import Grid, write_image
from r2star.settings import Settings
from r2star.workflows.run import init_dataset_wf


@pytest.fixture
def unit(tmp_path: Path, write_participant: Callable[..., Path]) -> Unit:
    folder = write_participant(tmp_path / "bids")
    for path in sorted(folder.glob("*_MEGRE.nii.gz")):
        phase = path.name.replace("_MEGRE", "_part-phase_MEGRE")
        (folder / phase).write_bytes(path.read_bytes())
        sidecar = path.name.replace(".nii.gz", ".json")
        (folder / sidecar.replace("_MEGRE", "_part-phase_MEGRE")).write_text((folder / sidecar).read_text())
        path.rename(folder / path.name.replace("_MEGRE", "_part-mag_MEGRE"))
        (folder / sidecar).rename(folder / sidecar.replace("_MEGRE", "_part-mag_MEGRE"))
    (folder / "sub-01_T1w.nii.gz").write_bytes(next(folder.glob("*mag*.nii.gz")).read_bytes())
    (found,) = find_units(tmp_path / "bids")
    assert len(found.phase) == 3
    assert found.t1w is not None
    return found


def graph_of(unit: Unit, tmp_path: Path, **options: object) -> pe.Workflow:
    settings = Settings(tmp_path / "bids", tmp_path / "out", tmp_path / "work", **options)
    return init_dataset_wf([unit], settings, n_threads=1)


@pytest.mark.parametrize("field_gradient", ["off", "report", "correct"])
@pytest.mark.parametrize("t1w", [True, False])
@pytest.mark.parametrize("phase", [True, False])
def test_every_connected_field_is_declared_and_nothing_waits_for_itself(
    unit: Unit, tmp_path: Path, t1w: bool, phase: bool, field_gradient: str
) -> None:
    unit = unit if t1w else replace(unit, t1w=None)
    unit = unit if phase else replace(unit, phase=())
    require_declared(graph_of(unit, tmp_path, field_gradient=field_gradient))


def require_declared(graph: pe.Workflow) -> None:
    """Every connection leads from a declared output to a declared input, and no node waits for itself."""
    flat = graph._create_flat_graph()
    assert nx.is_directed_acyclic_graph(flat)
    for source, target, data in flat.edges(data=True):
        for output, name in data["connect"]:
            assert name in target.inputs.copyable_trait_names(), (target.fullname, name)
            known = source.interface.output_spec().copyable_trait_names() if not is_plain(source) else None
            if known is not None:
                assert (output[0] if isinstance(output, tuple) else output) in known, (
                    source.fullname,
                    output,
                )


def test_denoised_echoes_go_to_the_fit_and_nowhere_else(unit: Unit, tmp_path: Path) -> None:
    flat = graph_of(unit, tmp_path, denoise="mppca")._create_flat_graph()
    (node,) = (one for one in flat.nodes() if one.name == "denoise")
    reached = {
        (target.name, name)
        for _, target, data in flat.out_edges(node, data=True)
        for output, name in data["connect"]
        if output in ("magnitude", "denoising")
    }
    assert reached == {("fit", "magnitude"), ("fit", "denoising")}
    inputs = {name for _, _, data in flat.in_edges(node, data=True) for _, name in data["connect"]}
    assert inputs == {"magnitude", "noise"}


def is_plain(node: pe.Node) -> bool:
    """Identity and merge nodes make their outputs from their inputs."""
    return isinstance(node.interface, IdentityInterface) or type(node.interface).__name__ == "Merge"


def test_every_mandatory_input_is_set_or_connected(unit: Unit, tmp_path: Path) -> None:
    flat = graph_of(unit, tmp_path)._create_flat_graph()
    for node in flat.nodes():
        connected = {name for _, _, data in flat.in_edges(node, data=True) for _, name in data["connect"]}
        for name, trait in node.inputs.traits(mandatory=True).items():
            value = getattr(node.inputs, name)
            assert name in connected or str(value) != "<undefined>", (node.fullname, name, trait)


def test_fit_only_has_no_registration(unit: Unit, tmp_path: Path) -> None:
    names = graph_of(unit, tmp_path, fit_only=True).list_node_names()
    assert not [name for name in names if "register" in name or "labels" in name]
    assert [name for name in names if name.endswith(".fit")]


def test_a_graph_stays_within_one_screen(unit: Unit, tmp_path: Path) -> None:
    graph = graph_of(unit, tmp_path)
    participant = graph.get_node("sub_01")
    own = participant.get_node("unit_sub_01")
    for one in (participant, own, own.get_node("alignment"), own.get_node("space_MNI152NLin2009cAsym")):
        steps = [node for node in one._graph.nodes() if hasattr(node, "stage")]
        assert len(steps) <= 8


def test_units_that_share_a_t1w_register_it_once(unit: Unit, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "bids", tmp_path / "out", tmp_path / "work")
    second = replace(unit, run="2")
    names = init_dataset_wf([unit, second], settings, n_threads=1).list_node_names()
    assert len([name for name in names if ".anatomy_" in name and name.endswith(".register")]) == 1
    assert len([name for name in names if name.endswith(".publish")]) == 2


@pytest.mark.parametrize("field_gradient", ["report", "correct"])
def test_sessions_without_a_t1w_register_the_first_one_once(
    unit: Unit, tmp_path: Path, field_gradient: str
) -> None:
    first = replace(unit, t1w=None, session="1")
    lesions = (Derived("lesions", "mask", unit.magnitude[0].path, "MEGRE"),)
    reference = replace(first, phase=(), derived=lesions)
    units = [replace(first, reference=reference), replace(first, session="2", reference=reference)]
    atlases = ("CIT168", str(own_atlas(tmp_path / "other")))
    options = {"field_gradient": field_gradient, "atlases": atlases}
    settings = Settings(tmp_path / "bids", tmp_path / "out", tmp_path / "work", **options)
    whole, alone = (init_dataset_wf(some, settings, n_threads=1) for some in (units, units[1:]))
    for graph in (whole, alone):
        require_declared(graph)
    flat = {node.fullname: node for node in whole._create_flat_graph().nodes()}
    placed = [name for name, node in flat.items() if "atlas" in node.inputs.copyable_trait_names()
              and name.rpartition(".")[2].startswith("register")]  # fmt: skip
    assert sorted(name.split(".")[2] for name in placed) == [
        "reference_sub_01_ses_1_MNI152NLin2009cAsym",
        "reference_sub_01_ses_1_MyTemplate",
    ]
    assert all(str(flat[name].inputs.lesion_mask) == str(lesions[0].path) for name in placed)
    assert all(flat[name].stage.units == ("sub-01_ses-1", "sub-01_ses-2") for name in placed)
    joined = {name.split(".")[2] for name in flat if name.rpartition(".")[2].startswith("join")}
    assert joined == {"unit_sub_01_ses_2"}, "the first session is at its own place already"
    # a job for the second session alone does the same in the same place of the work folder
    nodes = {name for name in flat if ".unit_sub_01_ses_1." not in name}
    assert {node.fullname for node in alone._create_flat_graph().nodes()} == nodes
    assert not [name for name in flat if name.endswith("first_fit")]


def test_the_settings_travel_to_the_marker(unit: Unit, tmp_path: Path) -> None:
    graph = graph_of(unit, tmp_path, fit_method="arlo", random_seed=7)
    publish = next(node for node in graph._create_flat_graph().nodes() if node.name == "publish")
    assert json.loads(publish.inputs.settings)["fit_method"] == "arlo"
    assert json.loads(publish.inputs.settings)["random_seed"] == 7
    assert "n_procs" not in json.loads(publish.inputs.settings)


def with_derived(unit: Unit, world: World) -> Unit:
    """The unit with one result of another program in each role."""
    (echo, *_) = unit.magnitude
    roles: tuple[tuple[Role, str], ...] = (
        ("brain_mask", "mask"), ("segmentation", "aseg"), ("lesions", "mask"), ("map", "Chimap"),
    )  # fmt: skip
    return replace(unit, derived=tuple(Derived(role, name, echo.path, world) for role, name in roles))


ASKED = {"segmentations": ("aseg",), "brain_mask": "mask", "lesions": "mask", "maps": ("Chimap", "T1map")}


@pytest.mark.parametrize("t1w", [True, False])
@pytest.mark.parametrize("atlases", [(), ("CIT168",)])
def test_results_of_other_programs_come_in_by_declared_fields(
    unit: Unit, tmp_path: Path, t1w: bool, atlases: tuple[str, ...]
) -> None:
    unit = unit if t1w else replace(unit, t1w=None)
    asked = with_derived(unit, "T1w" if t1w else "MEGRE")
    graph = graph_of(asked, tmp_path, atlases=atlases, iron="langkammer2010", **ASKED)
    require_declared(graph)
    flat = {node.fullname: node for node in graph._create_flat_graph().nodes()}
    tables = sorted(name for name in flat if ".table" in name)
    assert [name.rpartition(".")[2] for name in tables] == ["table", *(f"table_{name}" for name in atlases)]
    for name in tables:
        assert flat[name].inputs.map_names == ["Chimap", "T1map"]
        assert flat[name].inputs.with_lesions
    registers = [node for name, node in flat.items() if name.endswith(".register")]
    masked = [node for node in registers if "lesion_mask" in node.inputs.copyable_trait_names()]
    assert [str(node.inputs.lesion_mask) for node in masked] == [str(unit.magnitude[0].path)]


def test_lesions_drawn_on_the_megre_are_left_out_of_the_registration_of_the_t1w(
    unit: Unit, tmp_path: Path
) -> None:
    drawn = replace(unit, derived=(Derived("lesions", "mask", unit.magnitude[0].path, "MEGRE"),))
    drawn = replace(drawn, lesioned=replace(drawn, phase=()))
    options = {"lesions": "mask", "atlases": ("CIT168", str(own_atlas(tmp_path / "other")))}
    graph = graph_of(drawn, tmp_path, **options)
    require_declared(graph)
    flat = graph._create_flat_graph()
    masked = {target.fullname.split(".", 2)[2]: source.name for source, target, data in flat.edges(data=True)
              if "lesion_mask" in [name for _, name in data["connect"]]}  # fmt: skip
    assert masked == {
        "anatomy_1.register": "lesions_on_t1w",
        "anatomy_2.register": "lesions_on_t1w",
        "unit_sub_01.alignment.refine": "lesions_on_t1w",
        "unit_sub_01.refine_MyTemplate": "outputnode",  # the alignment's, by its field lesions_on_t1w
    }
    assert not [
        node for node in flat.nodes() if str(getattr(node.inputs, "lesion_mask", "")).endswith(".nii.gz")
    ]
    anatomy = graph.get_node("sub_01").get_node("anatomy_1")
    assert len([node for node in anatomy._graph.nodes() if hasattr(node, "stage")]) <= 8
    hashed = {source.name for source, target, _ in flat.edges(data=True) if target.name == "all_t1w_hashes"}
    assert hashed == {"check", "check_megre", "lesions_on_t1w"}


@pytest.mark.parametrize("t1w", [True, False])
def test_an_atlas_of_another_template_has_its_own_registration(unit: Unit, tmp_path: Path, t1w: bool) -> None:
    unit = unit if t1w else replace(unit, t1w=None)
    other = own_atlas(tmp_path / "other")
    graph = graph_of(unit, tmp_path, atlases=("CIT168", str(other)))
    require_declared(graph)
    names = [node.fullname for node in graph._create_flat_graph().nodes()]
    spaces = [name for name in names if name.endswith(".template_map")]
    assert sorted(name.split(".")[-2] for name in spaces) == ["space_MNI152NLin2009cAsym", "space_MyTemplate"]
    registered = [name for name in names if name.split(".")[-1] in ("register", "register_MyTemplate")]
    # two to templates, and with a T1w one of the MEGRE to it
    assert len(registered) == (3 if t1w else 2)


def test_weights_of_an_atlas_reach_its_table_alone(unit: Unit, tmp_path: Path) -> None:
    other = own_atlas(tmp_path / "other")
    weights = write_image(
        other.with_name("weights.nii.gz"), np.ones((4, 4, 4), np.float32), Grid((4, 4, 4), np.eye(4))
    )
    other.write_text(other.read_text().replace("[files]", f'[files]\nweights = "{weights.name}"'))
    graph = graph_of(unit, tmp_path, atlases=("CIT168", str(other)))
    require_declared(graph)
    flat = graph._create_flat_graph()
    fed = {target.name: source for source, target, data in flat.edges(data=True)
           if ("image", "weight_map") in data["connect"]}  # fmt: skip
    assert list(fed) == ["table_Mine"]
    assert str(fed["table_Mine"].inputs.image) == str(weights)
    assert fed["table_Mine"].inputs.name == "atlas-Mine_probseg"


def test_two_templates_of_one_name_are_refused(unit: Unit, tmp_path: Path) -> None:
    other = own_atlas(tmp_path / "other", space="MNI152NLin2009cAsym")
    with pytest.raises(UsageError, match="E459"):
        graph_of(unit, tmp_path, atlases=("CIT168", str(other)))


def own_atlas(folder: Path, space: str = "MyTemplate") -> Path:
    """An atlas of four voxels with a template of its own."""
    folder.mkdir()
    grid = Grid((4, 4, 4), np.eye(4))
    for name in ("labels", "t1w", "mask"):
        write_image(folder / f"{name}.nii.gz", np.ones(grid.shape, np.uint8), grid, dtype=np.uint8)
    path = folder / "my.toml"
    path.write_text(
        f'name = "Mine"\nspace = "{space}"\n[files]\nlabels = "labels.nii.gz"\nt1w = "t1w.nii.gz"\n'
        'brain_mask = "mask.nii.gz"\n[[region]]\nname = "putamen"\nleft = [1]\n'
    )
    return path


@pytest.mark.parametrize(("field_gradient", "n_fits"), [("report", 1), ("correct", 2)])
def test_a_corrected_fit_waits_for_the_field_while_a_plain_one_drives_the_registration(
    unit: Unit, tmp_path: Path, field_gradient: str, n_fits: int
) -> None:
    settings = Settings(tmp_path / "bids", tmp_path / "out", tmp_path / "work", field_gradient=field_gradient)
    flat = init_dataset_wf([unit], settings, n_threads=2)._create_flat_graph()
    nodes = {node.name: node for node in flat.nodes()}
    assert len([name for name in nodes if name in ("fit", "first_fit")]) == n_fits
    assert nx.has_path(flat, nodes["b0"], nodes["fit"]) == (field_gradient == "correct")
    assert nodes["b0"].inputs.required == (field_gradient == "correct")
    assert all(nodes[name].inputs.n_threads == nodes[name].n_procs == 2 for name in ("fit", "b0", "bias"))
