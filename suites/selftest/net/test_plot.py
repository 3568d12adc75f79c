# SPDX-License-Identifier: GPL-2.0
"""Pictures: the same bytes each time, what they say, and what can't be drawn."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import networkx
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykernel.errors import UsageError
from anykernel.net import plot, topology
from anykernel.net.plot import Step, ladder, layout


class Drawn:
    """Nodes and links as a network has them, without kernels."""

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}
        self.links: list[Any] = []

    def node(self, name: str) -> Any:
        return self.nodes.setdefault(name, SimpleNamespace(name=name))

    def link(self, *nodes: Any, kind: str = "p2p", is_up: bool = True, **options: Any) -> Any:
        ports = [SimpleNamespace(node=node) for node in nodes]
        cable = SimpleNamespace(**options)
        name = f"link{len(self.links)}"
        made = SimpleNamespace(name=name, kind=kind, ports=ports, cable=cable, is_up=is_up)
        self.links.append(made)
        return made


def dumbbell() -> Drawn:
    network = Drawn()
    slow = {"rate": "10Mbit", "delay": "20ms", "loss": 0.01}
    topology.dumbbell(network, 2, 2, bottleneck=slow, rate=10**9)
    network.link(network.nodes["left0"], network.nodes["left1"], kind="switch", is_up=False)
    return network


STEPS = [
    Step(0, "client", "server", "SYN", received_ns=10_000_000),
    Step(10_000_000, "server", "client", "SYN-ACK", received_ns=20_000_000),
    Step(20_000_000, "client", "server", "data 0:1448", lost=True),
    Step(1_020_000_000, "client", "server", "data 0:1448 again"),
]

Draw = Callable[[Path], None]
DRAW: dict[str, Draw] = {
    "topology": lambda path: plot.topology(dumbbell(), path, title="two and two"),
    "sequence": lambda path: plot.sequence(STEPS, path, title="a loss"),
    "curves": lambda path: plot.curves({"cwnd": [(0, 10), (1, 20)]}, path, ylabel="segments"),
}


def said(path: Path) -> list[str]:
    """The texts of an SVG file: matplotlib keeps each as a comment beside its outlines."""
    ElementTree.parse(path)
    return [text.strip() for text in re.findall(r"<!--(.*?)-->", path.read_text(), re.DOTALL)]


@pytest.fixture(params=DRAW)
def draw(request: pytest.FixtureRequest) -> Draw:
    return DRAW[request.param]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_bytes(draw: Draw, tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    draw(first)
    draw(second)
    data = first.read_bytes()
    assert data == second.read_bytes()
    assert data.startswith(b"\x89PNG\r\n" if suffix == ".png" else b"<?xml")


def test_settings_of_others_are_neither_used_nor_changed(draw: Draw, tmp_path: Path) -> None:
    import matplotlib

    draw(tmp_path / "plain.svg")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.hashsalt": "x"}):
        draw(tmp_path / "set.svg")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "set.svg").read_bytes()


def test_no_other_pictures(draw: Draw, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.png or \.svg"):
        draw(tmp_path / "picture.jpg")


def test_without_matplotlib(draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install pytest-anykernel\[plot\]"):
        draw(tmp_path / "picture.png")


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, anykernel.net.plot, anykernel.net.topology, anykernel.net.apply;"
        "print(sorted({'matplotlib', 'numpy', 'networkx', 'pyroute2'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"


def test_what_a_topology_says(tmp_path: Path) -> None:
    path = tmp_path / "net.svg"
    DRAW["topology"](path)
    texts = [line for text in said(path) for line in text.split("\n")]
    assert {"left0", "right1", "router0", "link5", "two and two"} <= set(texts)
    assert texts.count("1Gbit") == 4
    assert {"10Mbit", "20ms", "1% loss"} <= set(texts)


def test_what_all_links_have_is_said_once(tmp_path: Path) -> None:
    network = Drawn()
    topology.ring(network, 4, rate="1Gbit", delay="100us")
    plot.topology(network, tmp_path / "ring.svg")
    texts = said(tmp_path / "ring.svg")
    assert "all links: 1Gbit, 100us" in texts and "1Gbit" not in texts


def test_positions(tmp_path: Path) -> None:
    network = Drawn()
    tree = topology.fat_tree(network, 4)
    positions = plot.tiers(tree.cores, tree.aggregations, tree.edges, tree.hosts)
    assert set(positions) == set(network.nodes)
    assert len({y for _, y in positions.values()}) == 4
    plot.topology(network, tmp_path / "tree.png", positions=positions)
    del positions["core1"]
    with pytest.raises(UsageError, match="positions has none for core1"):
        plot.topology(network, tmp_path / "tree.png", positions=positions)


def test_positions_of_links_with_many_ends(tmp_path: Path) -> None:
    """In the middle of their nodes; links side by side bend away from each other."""
    network = Drawn()
    a, b, c = (network.node(name) for name in "abc")
    network.link(a, b, c, kind="segment", rate="10Mbit")
    network.link(a, b, rate="1Gbit")
    network.link(b, a, delay="300ms")
    plot.topology(network, tmp_path / "p.svg", positions={"a": (0, 0), "b": (9, 0), "c": (4, 7)})
    texts = [line for text in said(tmp_path / "p.svg") for line in text.split("\n")]
    assert {"link0", "10Mbit", "1Gbit", "300ms"} <= set(texts)


def test_no_nodes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="without nodes"):
        plot.topology(Drawn(), tmp_path / "none.png")


def test_one_node(tmp_path: Path) -> None:
    network = Drawn()
    network.node("alone")
    plot.topology(network, tmp_path / "one.svg")
    assert said(tmp_path / "one.svg") == ["alone"]


def test_what_a_sequence_says(tmp_path: Path) -> None:
    path = tmp_path / "sequence.svg"
    plot.sequence(reversed(STEPS), path, nodes=["server", "client", "idle"])
    texts = said(path)
    assert [text for text in texts if text in {"client", "server", "idle"}] == [
        "server",
        "client",
        "idle",
    ]
    assert {step.label for step in STEPS} <= set(texts)
    assert {"0.000 ms", "10.000 ms", "20.000 ms", "1.020000 s"} <= set(texts)


def test_frames_of_any_kind(tmp_path: Path) -> None:
    frame = SimpleNamespace(time_ns=5, sender="a", receiver="a", label="to myself")
    plot.sequence([frame], tmp_path / "self.svg")
    assert "to myself" in said(tmp_path / "self.svg")


@pytest.mark.parametrize("count", [0, ladder.MOST_STEPS + 1])
def test_too_few_and_too_many_frames(count: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"1 to 1000 frames, not {count}"):
        plot.sequence([STEPS[0]] * count, tmp_path / "sequence.png")


def test_a_stranger_among_the_nodes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'server' sends or receives, but is not among"):
        plot.sequence(STEPS, tmp_path / "sequence.png", nodes=["client"])


TIME = st.integers(0, 10**6) | st.integers(0, 10**12)


@given(st.lists(st.tuples(TIME, st.none() | TIME, st.permutations("abc")), min_size=1, max_size=20))
def test_rows_of_a_sequence(items: list[tuple[int, int | None, list[str]]]) -> None:
    """In order of time, no two labels in one row, and nothing arrives above where it left."""
    steps = [
        Step(time, names[0], names[1], "", False, None if delay is None else time + delay)
        for time, delay, names in sorted(items, key=lambda item: item[0])
    ]
    sent, received, depth = ladder._rows(steps)
    assert all(b - a > ladder.ROW - 1e-9 for a, b in pairwise(sent))
    assert all(a <= b <= depth for a, b in zip(sent, received, strict=True))
    for one, a in zip(steps, received, strict=True):
        for other, b in zip(steps, received, strict=True):
            if None not in (one.received_ns, other.received_ns) and one[5] < other[5]:  # type: ignore[operator]
                assert a < b


def test_what_curves_say(tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    series = {f"flow {number}": [(0.0, 1.0), (1.0, 2.0 + number)] for number in range(9)}
    plot.curves(series | {"one": [(0.5, 3)], "none": []}, path, ylabel="Mbit/s", title="goodput")
    assert {"Mbit/s", "virtual time (s)", "goodput", "one", "none", *series} <= set(said(path))
    with pytest.raises(UsageError, match="at least one series"):
        plot.curves({}, path)


def test_steps_hold_their_value(tmp_path: Path) -> None:
    series = {"cwnd": [(0.0, 10.0), (1.0, 20.0)]}
    plot.curves(series, tmp_path / "steps.svg", step=True)
    plot.curves(series, tmp_path / "lines.svg")
    assert (tmp_path / "steps.svg").read_bytes() != (tmp_path / "lines.svg").read_bytes()


# Layout


@given(st.integers(1, 12), st.floats(0, 1), st.integers(0, 99))
def test_distances_are_those_of_networkx(count: int, probability: float, seed: int) -> None:
    graph = networkx.gnp_random_graph(count, probability, seed)
    lengths = dict(networkx.all_pairs_shortest_path_length(graph))
    longest = max(hops for row in lengths.values() for hops in row.values())
    assert layout.distances(count, list(graph.edges)) == [
        [lengths[a].get(b, longest + 1) for b in range(count)] for a in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 40])
def test_a_chain_is_a_straight_line(count: int) -> None:
    place = layout.stress(count, [(number, number + 1) for number in range(count - 1)])
    assert numpy.allclose(place[:, 1], 0, atol=0.05)
    assert numpy.allclose(numpy.diff(place[:, 0]), 1, atol=0.05)


def test_a_ring_is_round() -> None:
    count = 12
    place = layout.stress(count, [(number, (number + 1) % count) for number in range(count)])
    radius = numpy.hypot(*(place - place.mean(0)).T)
    assert numpy.allclose(radius, radius.mean(), rtol=0.02)


@given(
    st.lists(
        st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 1), st.floats(0.1, 1)),
        min_size=1,
        max_size=12,
    )
)
def test_boxes_are_parted(items: list[tuple[float, float, float, float]]) -> None:
    sizes = [(width, height) for *_, width, height in items]
    place = layout.part([(x, y) for x, y, *_ in items], sizes)
    overlapping = 0
    for a, b in combinations(range(len(items)), 2):
        x, y = abs(place[a] - place[b])
        over = ((sizes[a][0] + sizes[b][0]) / 2 - x, (sizes[a][1] + sizes[b][1]) / 2 - y)
        overlapping += min(over) > 0.02
    assert not overlapping
