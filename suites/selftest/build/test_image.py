# SPDX-License-Identifier: GPL-2.0
"""Images: built once, from the cache afterwards, and what a build that fails says."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anykernel import cache
from anykernel.build import Image, ensure_image, kconfig
from anykernel.cache import CacheError
from anykernel.errors import BuildError, KconfigError, SourceError, ToolError, UsageError
from suites.selftest import tiny

pytestmark = pytest.mark.usefixtures("own_cache")


def builds(image: Image) -> int:
    """How many times the source has been linked."""
    (built,) = (image.tree.parent.parent / "objects").glob(f"{image.tree.name}-*/builds")
    return len(built.read_text().split())


def test_an_image(tiny_tree: Path) -> None:
    before = tiny.snapshot(tiny_tree)
    image = ensure_image(str(tiny_tree))
    assert (image.release, image.flavour, image.source) == ("6.1.999", "default", str(tiny_tree))
    for path in (image.library, image.vmlinux):
        assert path.read_bytes().startswith(b"\x7fELF")
    assert b"net_echo" in image.vmlinux.read_bytes()
    config = image.config.read_text()
    assert all(r.line() in config for r in kconfig.requests("default"))
    assert tiny.snapshot(tiny_tree) == before, "the user's folder is as it was"


def test_what_a_whole_config_asks_for_in_vain_is_written_down(
    tiny_tree: Path, tmp_path: Path
) -> None:
    """Also when only an edited file was compiled anew since."""
    mine = tmp_path / "my.config"
    text = "# Automatically generated file; DO NOT EDIT.\nCONFIG_TINY=y\nCONFIG_NO_SUCH_SYMBOL=m\n"
    mine.write_text(text)
    first = ensure_image(str(tiny_tree), str(mine))
    (tiny_tree / "net/echo.c").write_text("int net_echo(int x) { return -x; }\n")
    second = ensure_image(str(tiny_tree), str(mine))
    assert first.id != second.id and "CONFIG_TINY=y" in second.config.read_text()
    for image in (first, second):
        assert image.refused == ["CONFIG_NO_SUCH_SYMBOL=y: not in this tree"]
        assert "my.config: 1 of its values can't be had in a library:" in image.of_refused()
    assert ensure_image(str(tiny_tree)).refused == []
    mine.write_text(text.replace("# Automatically generated", "# My"))
    with pytest.raises(KconfigError, match="CONFIG_NO_SUCH_SYMBOL does not exist"):
        ensure_image(str(tiny_tree), str(mine))


def test_it_is_built_once(tiny_tree: Path) -> None:
    image = ensure_image(str(tiny_tree))
    said: list[str] = []
    assert ensure_image(str(tiny_tree), progress=lambda what, *_: said.append(what)) == image
    assert builds(image) == 1
    assert said == []


def test_each_difference_is_another_image(tiny_tree: Path) -> None:
    images = {ensure_image(str(tiny_tree)).id}
    images.add(ensure_image(str(tiny_tree), config={"TINY": "y"}).id)
    images.add(ensure_image(str(tiny_tree), "debug").id)
    (tiny_tree / "net/echo.c").write_text("int net_echo(int x) { return -x; }\n")
    images.add(ensure_image(str(tiny_tree)).id)
    assert len(images) == 4


def test_an_edit_compiles_what_changed(tiny_tree: Path) -> None:
    """And an edit taken back compiles nothing."""
    first = ensure_image(str(tiny_tree))
    echo = tiny_tree / "net/echo.c"
    status, text = echo.stat(), echo.read_text()
    echo.write_text("int net_echo(int x)\n{\n\treturn -x;\n}\n")
    compiled: list[str] = []
    second = ensure_image(str(tiny_tree), progress=lambda what, *_: compiled.append(what))
    assert second.library.read_bytes() != first.library.read_bytes()
    assert "net/echo.o" in compiled and "net/core.o" not in compiled
    echo.write_text(text)
    os.utime(echo, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert ensure_image(str(tiny_tree)) == first
    assert builds(first) == 2


def test_progress_has_objects_and_an_estimate(tiny_tree: Path) -> None:
    said: list[tuple[str, int, int]] = []
    ensure_image(str(tiny_tree), progress=lambda *what: said.append(what))
    texts = [what for what, _, _ in said]
    assert texts[:2] == ["composing the tree", "configuring"]
    assert {"net/core.o", "net/echo.o", "vmlinux"} <= set(texts)
    done = [(done, total) for what, done, total in said if what.endswith(".o")]
    assert [d for d, _ in done] == [1, 2]
    assert all(d <= total for d, total in done)


def test_a_compile_error_is_shown_as_the_compiler_said_it(tiny_tree: Path) -> None:
    (tiny_tree / "net/echo.c").write_text("int net_echo(int x)\n{\n\treturn y;\n}\n")
    with pytest.raises(BuildError) as caught:
        ensure_image(str(tiny_tree))
    said = str(caught.value)
    assert "net/echo.c: In function" in said
    assert f"{tiny_tree}/net/echo.c:3:16: error:" in said and "undeclared" in said
    assert "\treturn y;" in said or "return y;" in said
    assert len(said.splitlines()) < 12 and said.count("undeclared") == 1
    assert caught.value.argv[0] == "make" and caught.value.returncode == 2
    assert caught.value.log is not None and caught.value.log.is_file()
    assert "net/echo.c:3" in caught.value.log.read_text()


def test_after_the_error_is_mended_it_builds(tiny_tree: Path, own_cache: Path) -> None:
    (tiny_tree / "net/echo.c").write_text("int net_echo(int x) { return y; }\n")
    with pytest.raises(BuildError):
        ensure_image(str(tiny_tree))
    assert list((own_cache / "images").iterdir()) == []
    (tiny_tree / "net/echo.c").write_text("int net_echo(int x) { return x; }\n")
    assert ensure_image(str(tiny_tree)).library.is_file()


def test_other_failures_of_make(tiny_tree: Path) -> None:
    (tiny_tree / "slowly").write_text("echo scripts/link.sh says no >&2; exit 3")
    with pytest.raises(BuildError, match=r"says no[\s\S]*Error 3"):
        ensure_image(str(tiny_tree))


def test_configurations_that_can_not_be(tiny_tree: Path, own_cache: Path) -> None:
    with pytest.raises(KconfigError, match=r"NET_FORBIDEN does not exist.*mean NET_FORBIDDEN"):
        ensure_image(str(tiny_tree), config={"NET_FORBIDEN": "y"})
    with pytest.raises(KconfigError, match=r"NET_FORBIDDEN=y was not granted \(it is n\)"):
        ensure_image(str(tiny_tree), config={"NET_FORBIDDEN": "y"})
    # Asked again, it isn't forgotten.
    with pytest.raises(KconfigError, match="NET_FORBIDDEN"):
        ensure_image(str(tiny_tree), config={"NET_FORBIDDEN": "y"})
    with pytest.raises(UsageError, match="there is no flavour 'kasan'"):
        ensure_image(str(tiny_tree), "kasan")
    assert list((own_cache / "images").iterdir()) == []


def test_a_wrong_flavour_is_found_before_anything_is_fetched() -> None:
    with pytest.raises(UsageError, match="flavour"):
        ensure_image("/no/such/folder", "kasan")


def test_trees_that_are_none(tmp_path: Path, tiny_tree: Path) -> None:
    with pytest.raises(SourceError, match="is no Linux source tree"):
        ensure_image(str(tmp_path))
    tiny.write(tiny_tree, (5, 10, 1))
    with pytest.raises(SourceError, match=r"is Linux 5\.10\.1; the overlay needs 6\.1"):
        ensure_image(str(tiny_tree))


def damage_library(image: Image) -> None:
    image.library.chmod(0o644)
    data = bytearray(image.library.read_bytes())
    data[len(data) // 2] ^= 0xFF
    image.library.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        damage_library,
        lambda image: image.vmlinux.write_bytes(b""),
        lambda image: image.config.unlink(),
        lambda image: shutil.rmtree(image.library.parent),
    ],
)
def test_an_image_damaged_by_hand_is_made_again(
    tiny_tree: Path, damage: Callable[[Image], object]
) -> None:
    image = ensure_image(str(tiny_tree))
    library, vmlinux = image.library.read_bytes(), image.vmlinux.read_bytes()
    damage(image)
    assert ensure_image(str(tiny_tree)) == image
    assert (image.library.read_bytes(), image.vmlinux.read_bytes()) == (library, vmlinux)
    assert image.config.is_file()


def test_a_missing_tool_names_its_package(
    tiny_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("gcc", "ld", "make", "bc", "bison", "sh", "as"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(ToolError, match="apt-get install flex"):
        ensure_image(str(tiny_tree))


def test_a_full_disk_is_explained(tiny_tree: Path, tmp_path: Path) -> None:
    (tiny_tree / "slowly").write_text("head -c 1 /dev/zero > /dev/full")
    with pytest.raises(CacheError, match="the disk of the cache is full"):
        ensure_image(str(tiny_tree))


MINE = """
from anykernel.build import ensure_image
def test_image():
    image = ensure_image({source!r})
    assert image.library.is_file()
    print(image.id)
"""


def test_two_pytest_runs_at_once_with_an_empty_cache(tiny_tree: Path, tmp_path: Path) -> None:
    (tiny_tree / "slowly").write_text("sleep 0.5")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "test_mine.py").write_text(MINE.format(source=str(tiny_tree)))
    argv = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(folder)]
    runs = [
        subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    said = [run.communicate(timeout=120)[0].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    image = ensure_image(str(tiny_tree))
    assert all(image.id in text and "1 passed" in text for text in said)
    assert builds(image) == 1


@pytest.mark.parametrize(("old", "new"), [("-rc7", ""), ("0", "")])
def test_a_folder_whose_release_changes(tiny_tree: Path, old: str, new: str) -> None:
    """From 6.1.999-rc7 to 6.1.999, from 6.1.9990 back to 6.1.999."""
    makefile = tiny_tree / "Makefile"
    text = makefile.read_text()
    makefile.write_text(text.replace("SUBLEVEL = 999", f"SUBLEVEL = 999{old}"))
    ensure_image(str(tiny_tree))
    makefile.write_text(text.replace("SUBLEVEL = 999", f"SUBLEVEL = 999{new}"))
    assert ensure_image(str(tiny_tree)).release == "6.1.999"


def test_a_configuration_that_an_edit_takes_away(tiny_tree: Path) -> None:
    ensure_image(str(tiny_tree), config={"TINY": "y"})
    with (tiny_tree / "refused").open("a") as file:
        file.write("CONFIG_TINY\n")
    with pytest.raises(KconfigError, match="TINY"):
        ensure_image(str(tiny_tree), config={"TINY": "y"})


@pytest.mark.parametrize("name", ["LLVM", "CROSS_COMPILE", "KCFLAGS", "KCONFIG_CONFIG", "LD"])
def test_a_kernel_developers_environment(
    tiny_tree: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """People who export these build other things with them."""
    monkeypatch.setenv(name, "other")
    (tiny_tree / "slowly").write_text(f'test -z "${name}"')
    ensure_image(str(tiny_tree))


def test_a_killed_build_leaves_nothing_for_ever(
    tiny_tree: Path, tmp_path: Path, own_cache: Path
) -> None:
    victim = tmp_path / "pid"
    (tiny_tree / "slowly").write_text(
        f"test -e {victim} || exit 0; kill -9 $(cat {victim}); exit 1"
    )
    code = f"""if True:
        import os, pathlib
        from anykernel.build import ensure_image
        pathlib.Path({str(victim)!r}).write_text(str(os.getpid()))
        ensure_image({str(tiny_tree)!r})
    """
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    (left,) = (own_cache / "images").iterdir()
    assert left.name.startswith(cache.PREFIX)
    victim.unlink()
    image = ensure_image(str(tiny_tree))
    assert [p.name for p in (own_cache / "images").iterdir()] == [image.id]
