# SPDX-License-Identifier: GPL-2.0
"""An image is a function of tree, flavour and symbols: what was built before it doesn't matter."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from anykernel.build import ensure_image, overlay
from anykernel.errors import AnykernelError, BuildError, KconfigError
from anykernel.settings import settings
from suites.selftest import little

KCONFIG = little.FILES["net/Kconfig"]
CORE = little.FILES["net/core.c"]
VARIANTS: dict[str, list[str | None]] = {
    "net/Kconfig": [
        KCONFIG,
        KCONFIG.replace("config ECHO\n", "config ECHOES\n"),
        KCONFIG.replace("default 3", "default 5"),
        KCONFIG.replace("depends on ECHO", "depends on !ECHO"),
        KCONFIG.replace('config LATE\n\tbool "late"\n\tdepends on ECHO\n\n', ""),
        KCONFIG.replace("bool", "boot"),
    ],
    "net/Makefile": [
        little.FILES["net/Makefile"],
        little.FILES["net/Makefile"] + "obj-y += extra.o\n",
        little.FILES["net/Makefile"].replace("obj-y := core.o\n", ""),
        little.FILES["net/Makefile"] + "ccflags-y := -DOF_MAKE\n",
    ],
    "net/extra.c": [None, "int net_extra;\n", "int net_extra = 3;\n"],
    "net/core.c": [CORE, CORE.replace("return OTHER", "return 40 + OTHER"), "int net_core(\n"],
    "net/echo.c": [little.FILES["net/echo.c"], "int net_echo(void)\n{\n\treturn 8;\n}\n"],
    "net/part.c": [little.FILES["net/part.c"], "#define part(x) (2 * (x))\n"],
    "net/linux/other.h": [None, "#define OTHER 77\n"],
    "include/linux/little.h": [little.FILES["include/linux/little.h"], "#define LITTLE 2\n"],
    "include/linux/other.h": [little.FILES["include/linux/other.h"], "#define OTHER 3\n"],
    "init/entry.S": [little.FILES["init/entry.S"], little.FILES["init/entry.S"] + "\tnop\n"],
    "init/Makefile": [
        little.FILES["init/Makefile"] + little.VERSION,
        little.FILES["init/Makefile"] + little.VERSION.replace("one", "two"),
    ],
    "scripts/link-vmlinux.sh": [
        little.FILES["scripts/link-vmlinux.sh"],
        little.FILES["scripts/link-vmlinux.sh"].replace("set -e", "set -e; set -- $* --no-gc"),
    ],
    "kernel/sched/idle.c": [
        little.FILES["kernel/sched/idle.c"],
        "void __weak arch_cpu_idle(void)\n{\n\traw_local_irq_enable();\n}\n",
    ],
}
"""Texts that a file may have; None: it isn't there."""
CONFIGS: list[dict[str, str]] = [{}, {"LATE": "y"}, {"SPEED": "9"}]
Result = dict[str, bytes] | str
numbers = itertools.count()


def edit(tree: Path, name: str, text: str | None, how: str = "written") -> None:
    """Gives a file another text, in one of the ways in which people do so."""
    path = tree / name
    if text is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    mode = path.stat().st_mode if path.exists() else 0o644
    if how == "written":
        path.write_text(text)
    else:  # a copy that was kept comes back, with its own time
        kept = tree.parent / f"kept-{next(numbers)}"
        kept.write_text(text)
        os.utime(kept, (1_000_000_000, 1_000_000_000))
        kept.rename(path)
    path.chmod(mode)


def built(tree: Path, config: dict[str, str]) -> Result:
    """What a build makes: files by name, or the kind of error."""
    try:
        image = ensure_image(str(tree), config=config)
    except AnykernelError as error:
        return type(error).__name__
    order = (image.objects / "order").read_text().split()
    names = [*order, *(name.removesuffix(".o") + ".dwo" for name in order)]
    kept = {name: path.read_bytes() for name in names if (path := image.objects / name).exists()}
    assert kept.keys() >= set(order)
    files = {"config": image.config, "library": image.library, "vmlinux": image.vmlinux}
    return {**{name: path.read_bytes() for name, path in files.items()}, **kept}


def anew(tree: Path, config: dict[str, str]) -> Result:
    """What a first build makes of a copy of the tree elsewhere, in another cache, without
    ccache."""
    with tempfile.TemporaryDirectory(prefix="anykernel-anew-") as folder:
        patch = pytest.MonkeyPatch()
        patch.setenv("ANYKERNEL_CACHE", f"{folder}/cache")
        patch.setenv("CCACHE_DISABLE", "1")
        settings.cache_clear()
        try:
            copy = shutil.copytree(tree, f"{folder}/a/copy", symlinks=True)
            return built(Path(copy), config)
        finally:
            patch.undo()
            settings.cache_clear()


def same(tree: Path, config: dict[str, str] | None = None) -> Result:
    """What is built, which is what a first build makes."""
    result, clean = built(tree, config or {}), anew(tree, config or {})
    if isinstance(result, str) or isinstance(clean, str):
        assert result == clean
    else:
        assert result.keys() == clean.keys()
        assert [name for name in result if result[name] != clean[name]] == []
    return result


def walk(tree: Path, *steps: Callable[[], object], config: dict[str, str] | None = None) -> None:
    """Builds after each step."""
    same(tree, config)
    for step in steps:
        step()
        same(tree, config)


@pytest.mark.usefixtures("own_cache")
class TestSteps:
    """Each kind of history that once left something behind, or could."""

    def test_a_symbol_that_goes_and_comes_back(self, little_tree: Path) -> None:
        first = same(little_tree)
        edit(little_tree, "net/Kconfig", VARIANTS["net/Kconfig"][1])
        away = same(little_tree)
        edit(little_tree, "net/Kconfig", KCONFIG)
        edit(little_tree, "net/core.c", VARIANTS["net/core.c"][1])
        back = same(little_tree)
        assert not (isinstance(first, str) or isinstance(away, str) or isinstance(back, str))
        assert b"CONFIG_ECHO=y" in first["config"] and b"CONFIG_ECHO=y" not in away["config"]
        assert back["config"] == first["config"]

    def test_a_wanted_symbol_that_goes_and_comes_back(self, little_tree: Path) -> None:
        """A build that is refused poisons no later one."""
        wanted = {"ECHO": "y"}
        same(little_tree, wanted)
        edit(little_tree, "net/Kconfig", VARIANTS["net/Kconfig"][1])
        assert same(little_tree, wanted) == KconfigError.__name__
        edit(little_tree, "net/Kconfig", KCONFIG)
        edit(little_tree, "net/core.c", VARIANTS["net/core.c"][1])
        assert not isinstance(same(little_tree, wanted), str)

    def test_a_default_that_changes(self, little_tree: Path) -> None:
        """It was written down as if the user had asked for it."""
        same(little_tree)
        edit(little_tree, "net/Kconfig", VARIANTS["net/Kconfig"][2])
        result = same(little_tree)
        assert not isinstance(result, str) and b"CONFIG_SPEED=5" in result["config"]

    def test_an_old_copy_that_is_moved_back(self, little_tree: Path) -> None:
        """With a time that is before that of the objects."""
        copy = little_tree.parent / "little.h"
        shutil.copy2(little_tree / "include/linux/little.h", copy)
        same(little_tree)
        edit(little_tree, "include/linux/little.h", "#define LITTLE 2\n")
        same(little_tree)
        copy.rename(little_tree / "include/linux/little.h")
        edit(little_tree, "net/part.c", VARIANTS["net/part.c"][1])  # not the first tree again
        same(little_tree)

    def test_a_failing_build_between(self, little_tree: Path) -> None:
        """What it compiled is of a state that nobody noted."""
        same(little_tree)
        edit(little_tree, "include/linux/little.h", "#define LITTLE 2\n", "moved")
        edit(little_tree, "net/core.c", "int net_core(\n")
        assert same(little_tree) == BuildError.__name__
        edit(little_tree, "include/linux/little.h", "#define LITTLE 1\n", "moved")
        edit(little_tree, "net/core.c", VARIANTS["net/core.c"][1])
        same(little_tree)

    def test_a_folder_that_is_swapped_for_another(self, little_tree: Path) -> None:
        other = shutil.copytree(little_tree / "net", little_tree.parent / "net")
        (other / "part.c").write_text("#define part(x) (2 * (x))\n")
        (other / "core.c").write_text(CORE.replace("return OTHER", "return 40 + OTHER"))

        def swap() -> None:
            (little_tree / "net").rename(little_tree.parent / "aside")
            other.rename(little_tree / "net")
            (little_tree.parent / "aside").rename(other)

        walk(little_tree, swap, swap)

    def test_a_header_that_hides_another(self, little_tree: Path) -> None:
        def add() -> None:
            edit(little_tree, "net/linux/other.h", "#define OTHER 77\n")

        def remove() -> None:
            edit(little_tree, "net/linux/other.h", None)

        walk(little_tree, add, remove, add)

    def test_a_header_that_hides_another_beside_an_edited_source(self, little_tree: Path) -> None:
        """A single C file is compiled without make; not here."""
        same(little_tree)
        edit(little_tree, "net/linux/other.h", "#define OTHER 77\n")
        edit(little_tree, "init/main.c", little.FILES["init/main.c"] + "int more;\n")
        same(little_tree)

    @pytest.mark.parametrize(
        "name", [n for n in VARIANTS if n not in ("net/extra.c", "net/linux/other.h")]
    )
    def test_a_file_beside_an_edited_source(self, little_tree: Path, name: str) -> None:
        """Whatever else is new, the shortcut must not overlook it."""
        same(little_tree)
        if name != "init/main.c":
            edit(little_tree, name, VARIANTS[name][1])
        edit(little_tree, "init/main.c", little.FILES["init/main.c"] + "int more;\n")
        same(little_tree)

    def test_a_tree_that_is_edited_while_it_is_built(self, little_tree: Path) -> None:
        """The key is of the tree before, what was linked may be of the tree after."""
        script, core = little_tree / "scripts/link-vmlinux.sh", little_tree / "net/core.c"
        text = script.read_text()
        edit = f"test -e ../was || {{ touch ../was; echo 'int late;' >> {core}; }}\n"
        script.write_text(text.replace("set -e\n", f"set -e\n{edit}"))
        said: list[str] = []
        image = ensure_image(str(little_tree), progress=lambda what, *_: said.append(what))
        assert "the tree was edited meanwhile: once more" in said
        assert b"late" in (image.objects / "net/core.o").read_bytes()
        assert ensure_image(str(little_tree)) == image

    def test_a_tree_that_never_rests(self, little_tree: Path) -> None:
        script, core = little_tree / "scripts/link-vmlinux.sh", little_tree / "net/core.c"
        text = script.read_text()
        script.write_text(text.replace("set -e\n", f"set -e\necho '/* */' >> {core}\n"))
        with pytest.raises(BuildError, match="was edited each time while it was built"):
            ensure_image(str(little_tree))

    def test_an_overlay_that_changes_and_changes_back(
        self, little_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = other_overlay(tmp_path)
        same(little_tree)
        with monkeypatch.context() as patch:
            patch.setattr(overlay, "OVERLAY", other)
            edit(little_tree, "net/core.c", VARIANTS["net/core.c"][1])
            same(little_tree)
        edit(little_tree, "net/part.c", VARIANTS["net/part.c"][1])
        same(little_tree)


def other_overlay(tmp_path: Path) -> Path:
    """An overlay with a header that hides one of the tree, and other flags."""
    other = shutil.copytree(overlay.OVERLAY, tmp_path / "overlay")
    (other / "lib/include/linux").mkdir()
    (other / "lib/include/linux/other.h").write_text("#define OTHER 99\n")
    with (other / "lib/Makefile").open("a") as file:
        file.write("KBUILD_CFLAGS += -DOVERLAY=2\n")
    return other


class Walk(RuleBasedStateMachine):
    """Edits back and forth, and builds that may fail."""

    real_tree: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="anykernel-walk-"))
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("ANYKERNEL_CACHE", str(self.folder / "cache"))
        settings.cache_clear()
        self.tree = little.write(self.folder / "little", self.real_tree)
        self.overlays = [overlay.OVERLAY, other_overlay(self.folder)]
        self.config: dict[str, str] = {}
        self.edits = 0

    @rule(which=st.sampled_from(sorted(VARIANTS)), number=st.integers(0, 5), how=st.booleans())
    def edit(self, which: str, number: int, how: bool) -> None:
        texts = VARIANTS[which]
        edit(self.tree, which, texts[number % len(texts)], "moved" if how else "written")
        self.edits += 1

    @rule(number=st.integers(0, 1))
    def switch_overlay(self, number: int) -> None:
        self.patch.setattr(overlay, "OVERLAY", self.overlays[number])

    @rule(config=st.sampled_from(CONFIGS))
    def ask_for(self, config: dict[str, str]) -> None:
        self.config = config

    @invariant()
    def it_is_as_a_first_build(self) -> None:
        same(self.tree, self.config)

    def teardown(self) -> None:
        self.patch.undo()
        settings.cache_clear()
        shutil.rmtree(self.folder)


@pytest.fixture
def steps() -> Iterator[int]:
    yield 12
    settings.cache_clear()


@pytest.mark.slow
def test_any_history(real_tree: Path, steps: int) -> None:
    Walk.real_tree = real_tree
    run_state_machine_as_test(
        Walk,
        settings=hypothesis_settings(
            max_examples=12,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
