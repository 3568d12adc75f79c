# SPDX-License-Identifier: GPL-2.0
"""The same source gives the same bits wherever it, the cache and we lie, and in whatever
environment; a cache may be moved."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from anykernel import cache
from anykernel.build import Image, ensure_image
from anykernel.build.compile import compile_c
from anykernel.cli.doctor import checks
from anykernel.errors import BuildError, UsageError
from anykernel.host import compiled
from anykernel.kernel import Kernel
from anykernel.link.image import link_image
from anykernel.link.unit import Spec, link_unit
from anykernel.settings import settings
from suites.selftest import little
from suites.selftest.build.test_history import built

Another = Callable[[], Path]
SHELL = "no shell should\nsplit this; $(exit 1) `exit 1`"
POLLUTED = {
    "ARCH": "arm64",
    "AS": "false",
    "CC": "false",
    "CDPATH": "/tmp:/",
    "CFLAGS": "-O0 -DCFLAGS",
    "COLLECT_GCC": "false",
    "CPPFLAGS": "-DCPPFLAGS",
    "CROSS_COMPILE": "aarch64-linux-gnu-",
    "ENV": "/nowhere",
    "GCC_COLORS": "error=01;31",
    "GIT_DIR": "/nowhere",
    "GNUMAKEFLAGS": "-n",
    "HOSTCFLAGS": "-O0",
    "KBUILD_CFLAGS": "-O0",
    "KBUILD_OUTPUT": "/nowhere",
    "KBUILD_VERBOSE": "1",
    "KCFLAGS": "-O0 -DKCFLAGS",
    "KCONFIG_ALLCONFIG": "1",
    "KCONFIG_CONFIG": "other",
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "tr_TR.UTF-8",
    "LDFLAGS": "--no-such-flag",
    "LD_RUN_PATH": "/nowhere",
    "LLVM": "1",
    "LOCALVERSION": "-mine",
    "MAKEFILES": "/nowhere",
    "MAKEFLAGS": "-n -k",
    "O": "/nowhere",
    "SHELLOPTS": "xtrace",
    "SOURCE_DATE_EPOCH": "1",
    "TZ": "Asia/Kolkata",
    "V": "1",
    "W": "1",
    "anything": SHELL,
}


@pytest.fixture
def pollute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What people have in their environment, and worse."""
    headers = tmp_path / "headers/linux"
    headers.mkdir(parents=True)
    (headers / "other.h").write_text("#define OTHER 666\n")
    (headers.parent / "stdio.h").write_text("#error not mine\n")
    for name in ("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "INCLUDE"):
        monkeypatch.setenv(name, str(headers.parent))
    for name, value in POLLUTED.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Path]]:
    """To be called for another cache than the one that was in use, from there on."""

    def change() -> Path:
        path = tmp_path / "deeper/another-cache"
        monkeypatch.setenv("ANYKERNEL_CACHE", str(path))
        settings.cache_clear()
        return path

    yield change
    settings.cache_clear()


def test_a_polluted_environment(
    little_tree: Path, own_cache: Path, request: pytest.FixtureRequest, another: Another
) -> None:
    clean = built(little_tree, {})
    request.getfixturevalue("pollute")
    another()
    assert built(little_tree, {}) == clean


def test_the_shortcut_in_a_polluted_environment(
    little_tree: Path, own_cache: Path, request: pytest.FixtureRequest, another: Another
) -> None:
    ensure_image(str(little_tree))
    request.getfixturevalue("pollute")
    core = little_tree / "net/core.c"
    core.write_text(core.read_text() + "int more;\n")
    said: list[str] = []
    short = ensure_image(str(little_tree), progress=lambda what, *_: said.append(what))
    assert "configuring" not in said
    another()
    whole = ensure_image(str(little_tree))
    assert short.vmlinux.read_bytes() == whole.vmlinux.read_bytes()


def test_our_programs(
    tmp_path: Path,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    another: Another,
) -> None:
    """From another checkout, in another cache and environment."""
    first = compiled.host_program().read_bytes()
    assert str(own_cache).encode() not in first
    assert str(compiled.OVERLAY).encode() not in first
    other = shutil.copytree(compiled.OVERLAY, tmp_path / "my own - ärger/overlay")
    monkeypatch.setattr(compiled, "OVERLAY", other)
    flags = [f"-I{other / 'host'}", f"-I{other / 'include'}"]
    monkeypatch.setattr(compiled, "C_COMPILER", ["cc", *compiled.FLAGS, *flags])
    request.getfixturevalue("pollute")
    another()
    assert compiled.host_program().read_bytes() == first


@pytest.mark.parametrize("folder", ["a b", "a:b", "it's", 'a"b', "a%b", "a$b", "a#b", "a=b"])
def test_caches_in_which_make_can_not_work(
    tiny_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    path = tmp_path / folder
    monkeypatch.setenv("ANYKERNEL_CACHE", str(path))
    settings.cache_clear()
    odd = next(char for char in folder if not char.isalnum())
    with pytest.raises(UsageError) as caught:
        ensure_image(tiny_folder)
    assert repr(odd) in str(caught.value) and str(path) in str(caught.value)
    assert "set ANYKERNEL_CACHE to a folder that is called otherwise" in str(caught.value)
    assert not path.exists(), "it is said before anything is fetched"
    (said,) = (check for check in checks() if check.what.startswith("cache "))
    assert not said.ok and repr(odd) in said.why and "ANYKERNEL_CACHE" in said.why
    settings.cache_clear()


@pytest.fixture
def tiny_folder(tiny_tree: Path) -> str:
    return str(tiny_tree)


def test_a_cache_and_a_tree_with_unusual_names(
    tmp_path: Path, real_tree: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the cache's name is make's matter; a tree may be called as it likes."""
    tree = little.write(tmp_path / "it's my own, ärger: 100% $HOME", real_tree)
    monkeypatch.setenv("ANYKERNEL_CACHE", str(tmp_path / "größe_1,2+3@x-y"))
    settings.cache_clear()
    first = built(tree, {})
    assert not isinstance(first, str)
    core = tree / "net/core.c"
    core.write_text(core.read_text() + "int more;\n")
    assert not isinstance(built(tree, {}), str)


def test_a_cache_that_was_moved(little_tree: Path, own_cache: Path, another: Another) -> None:
    old = ensure_image(str(little_tree))
    new = another()
    new.parent.mkdir(parents=True)
    own_cache.rename(new)
    said: list[str] = []
    image = ensure_image(str(little_tree), progress=lambda what, *_: said.append(what))
    assert (image.id, said) == (old.id, [])
    assert image.tree.is_relative_to(new) and (image.root / "net/core.c").is_file()
    source = little_tree / "mine.c"
    source.write_text('#include "linux/other.h"\nint mine(void)\n{\n\treturn OTHER;\n}\n')
    compile_c(image, source, new / "mine.o", like="net/core.o")
    source.unlink()
    # And it is built in, by make and without.
    for name in ("net/core.c", "net/part.c"):
        path = little_tree / name
        path.write_text(path.read_text() + f"static int {path.stem}_more;\n")
        assert ensure_image(str(little_tree)).library.is_relative_to(new)


READ_ONLY = """
import sys
from pathlib import Path
from anykernel import cache
from anykernel.build import ensure_image
from anykernel.build.compile import compile_c
source, scratch = map(Path, sys.argv[1:])
image = ensure_image(str(source))
compile_c(image, source / "net/core.c", scratch / "core.o", like="net/core.o", cached=False)
print((scratch / "core.o").stat().st_size > 0, cache.damage(image.root))
(source / "net/core.c").write_text("int net_core;\\n")
try:
    ensure_image(str(source))
except cache.CacheError as error:
    print(error)
"""


def test_a_cache_that_is_read_only(little_tree: Path, own_cache: Path, tmp_path: Path) -> None:
    """What is there serves; what is missing is refused clearly."""
    image = ensure_image(str(little_tree))
    script = tmp_path / "script.py"
    script.write_text(READ_ONLY)
    mount = f"mount --bind {own_cache} {own_cache} && mount -o remount,ro,bind {own_cache}"
    inside = ["unshare", "-Urm", "sh", "-c"]
    if subprocess.run([*inside, mount], capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody mount in a namespace of his own")
    program = shlex.join([sys.executable, str(script), str(little_tree), str(tmp_path)])
    done = subprocess.run(
        [*inside, f"{mount} && exec {program}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, _, rest = done.stdout.partition("\n")
    assert first == "True None"
    assert "the cache can't be written" in rest and "ANYKERNEL_CACHE" in rest
    assert cache.damage(image.root) is None


def test_nothing_of_an_image_says_where_it_was_made(little_tree: Path, own_cache: Path) -> None:
    image = ensure_image(str(little_tree))
    for path in image.root.rglob("*"):
        if path.is_symlink():
            assert not os.readlink(path).startswith("/"), path
        elif path.is_file() and path.name not in ("build.log", "inputs.json", "checksums.json"):
            assert str(own_cache).encode() not in path.read_bytes(), path


def test_a_compile_error_is_of_the_users_file(little_tree: Path, own_cache: Path) -> None:
    """By make, and by the shortcut."""
    core = little_tree / "net/core.c"
    text = core.read_text()
    core.write_text(text + "int wrong(void)\n{\n\treturn y;\n}\n")
    line = len(text.splitlines()) + 3
    said = []
    with pytest.raises(BuildError) as caught:
        ensure_image(str(little_tree))
    said.append(str(caught.value))
    core.write_text(text)
    ensure_image(str(little_tree))
    core.write_text(text + "int wrong(void)\n{\n\treturn y;\n}\n")
    with pytest.raises(BuildError, match=r"core\.c doesn't compile") as caught:
        ensure_image(str(little_tree))
    said.append(str(caught.value))
    for one in said:
        assert one.count(f"{core}:{line}:16: error: ") == 1
        assert "../" not in one and "objects/" not in one.partition("log: ")[0]
        assert len(one.splitlines()) < 12 and max(map(len, one.splitlines())) < 200


def test_one_symbol_more_and_another_folder_cost_what_changed(
    little_tree: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("ccache") is None:
        pytest.skip("ccache is not installed: every object is compiled anew")
    log = tmp_path / "stats"
    monkeypatch.setenv("CCACHE_STATSLOG", str(log))
    monkeypatch.setenv("CCACHE_DIR", str(tmp_path / "ccache"))
    settings.cache_clear()

    def missed() -> list[str]:
        """The sources that were compiled."""
        source, found = "", []
        for text in log.read_text().splitlines():
            if text.startswith("#"):
                source = text.removeprefix("# ")
            elif text == "cache_miss":
                found.append(source)
        log.write_text("")
        return [one for one in found if not one.startswith(("scripts", "../scripts"))]

    first = built(little_tree, {})
    assert len(missed()) == 5
    copy = shutil.copytree(little_tree, tmp_path / "deeper/copy")
    assert built(copy, {}) == first
    assert missed() == []
    built(copy, {"LATE": "y"})
    assert missed() == ["../net/core.c", "../net/late.c"]


def moved(image: Image, to: Path) -> Image:
    """An image in another cache, which has the same trees."""
    source = image.vmlinux.parent
    folder = to / "images" / source.name
    shutil.copytree(source, folder, symlinks=True)
    for kind in ("trees", "sources"):
        (to / kind).symlink_to(source.parent.parent / kind)
    return replace(
        image,
        library=folder / image.library.name,
        vmlinux=folder / "vmlinux",
        config=folder / "config",
        tree=to / "trees" / image.tree.name,
        objects=folder / "objects",
    )


@pytest.mark.slow
def test_units_and_parts_of_a_kernel(kernel: Kernel, another: Another) -> None:
    """From an image that was moved."""
    spec, parts = Spec(("net/ipv4/tcp_cubic.c", "lib/sort.c")), ["net/ipv4"]
    here = link_unit(kernel.image, spec), link_image(kernel.image, parts)
    new = another()
    image = moved(kernel.image, new)
    there = link_unit(image, spec), link_image(image, parts)
    for one, two in zip(here, there, strict=True):
        assert two.vmlinux.is_relative_to(new)
        for name in ("library", "vmlinux"):
            assert getattr(one, name).read_bytes() == getattr(two, name).read_bytes(), name
        assert cache.damage(two.vmlinux.parent) is None


def test_a_ccache_that_can_not_be_written_to_is_done_without(
    little_tree: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CCACHE_DIR", str(tmp_path / "file" / "ccache"))
    settings.cache_clear()
    assert built(little_tree, {})
