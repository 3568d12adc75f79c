# SPDX-License-Identifier: GPL-2.0
"""Units: what is loaded, what is mocked, what a crash is, what overruns and leaks are."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykernel.errors import BorderError, KernelCrash, LeakedMemory, UsageError
from anykernel.typed import Pointer
from anykernel.unit import Unit
from anykernel.unit.memory import MemoryDamage

Load = Callable[..., Unit]
CUBIC = "net/ipv4/tcp_cubic.c"


def test_static_functions_and_variables(unit: Load) -> None:
    cubic = unit(CUBIC)
    assert [cubic.cubic_root(n**3) for n in (3, 10, 1000)] == [3, 10, 1000]
    assert cubic.beta.value == 717
    cubic.beta.value = 512
    assert cubic.beta.value == 512


def test_the_last_tests_writes_are_gone(unit: Load) -> None:
    assert unit(CUBIC).beta.value == 717


@given(st.integers(1, 1023))
def test_each_example_is_pristine(unit: Load, value: int) -> None:
    cubic = unit(CUBIC)
    assert cubic.beta.value == 717
    cubic.beta.value = value


@pytest.fixture
def prepared(unit: Load) -> tuple[Unit, Pointer]:
    cubic = unit(CUBIC)
    cubic.mock("tcp_slow_start").does(lambda tp, acked: tp.snd_cwnd + acked)
    cubic.mock("tcp_reno_undo_cwnd").returns(7)
    return cubic, cubic.new("struct tcp_sock", snd_cwnd=10)


@given(st.integers(1, 1000))
def test_what_a_fixture_made_is_there_in_each_example(
    prepared: tuple[Unit, Pointer], value: int
) -> None:
    cubic, tp = prepared
    assert tp.snd_cwnd == 10
    tp.snd_cwnd = 10 + value
    asked, told = cubic.mock("tcp_slow_start"), cubic.mock("tcp_reno_undo_cwnd")
    asked.assert_not_called()
    assert cubic.space.function(asked.signature, cubic.space.address("tcp_slow_start"))(tp, 1) == (
        11 + value
    )
    asked.assert_called_once_with(tp, 1)
    asked.returns(0)  # undone for the next one
    told.undo()


def test_names_with_two_underscores(unit: Load) -> None:
    tree = unit("lib/rbtree.c")
    node = tree.new("struct rb_node", __rb_parent_color=8)
    assert node.__rb_parent_color == 8
    assert tree.__rb_erase_color is not None
    assert not hasattr(node, "__nothing__")


def test_several_at_once(unit: Load) -> None:
    first, second = unit(CUBIC), unit(CUBIC)
    first.beta.value = 1
    assert second.beta.value == 717


def test_files_that_the_kernel_was_not_built_from(unit: Load) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"did you mean net/ipv4/tcp_cubic\.c"):
        unit("net/ipv4/tcp_cubik.c")
    with pytest.raises(pytest.fail.Exception, match="a unit is made of C files"):
        unit("net/ipv4")
    with pytest.raises(pytest.fail.Exception, match="neither a C file nor a folder"):
        unit(CUBIC, with_=["net/nothing"])


@pytest.mark.kernel(allow_crash=True)
def test_a_crash_is_the_tests_and_names_the_line(unit: Load) -> None:
    with pytest.raises(KernelCrash) as caught:
        unit("lib/kstrtox.c").kstrtoull(None, 10, None)
    report = caught.value.report
    assert report.kind == "oops"
    assert report.frames[0].startswith("kstrtoull+")
    assert "(lib/kstrtox.c:" in report.frames[0]


@pytest.mark.kernel(budget=0.2, allow_crash=True)
def test_an_endless_loop_is_a_lockup(unit: Load) -> None:
    """bictcp_update() before cubictcp_register() set its constants."""
    cubic = unit(CUBIC)
    cubic.mock("__usecs_to_jiffies").returns(0)
    with pytest.raises(KernelCrash) as caught:
        cubic.bictcp_update(cubic.new("struct bictcp"), 10, 1)
    assert caught.value.report.kind == "lockup"
    assert "tcp_cubic.c" in caught.value.report.frames[0]


@pytest.mark.kernel(allow_crash=True)
def test_a_mock_that_nobody_told_what_to_do_is_loud(unit: Load) -> None:
    with pytest.raises(KernelCrash) as caught:
        unit(CUBIC).cubictcp_register()
    report = caught.value.report
    assert report.kind == "stub"
    assert "tcp_register_congestion_control(0x" in report.what
    assert any(frame.startswith("cubictcp_register+") for frame in report.frames)


def test_mocks_record_calls_and_answer(unit: Load) -> None:
    cubic = unit(CUBIC)
    register = cubic.mock("tcp_register_congestion_control").returns(-5)
    register.assert_not_called()
    assert cubic.cubictcp_register() == -5
    register.assert_called_once_with(cubic.cubictcp)
    with pytest.raises(AssertionError, match="expected call not found"):
        register.assert_called_once_with(None)
    register.raises(errno.EEXIST)
    assert cubic.cubictcp_register() == -errno.EEXIST
    assert register.call_count == 2


def test_a_mock_in_python_gets_typed_arguments(unit: Load) -> None:
    cubic = unit(CUBIC)
    seen = []

    def register(ca: object) -> int:
        seen.append(ca.name.string())  # type: ignore[attr-defined]
        # In the middle of one call, another one.
        seen.append(cubic.cubic_root(8))
        return 0

    cubic.mock("tcp_register_congestion_control").does(register)
    assert cubic.cubictcp_register() == 0
    assert seen == ["cubic", 2]


def test_what_a_mock_raises(unit: Load) -> None:
    cubic = unit(CUBIC)

    def fail(ca: object) -> int:
        raise KeyError("of the test")

    cubic.mock("tcp_register_congestion_control").does(fail)
    with pytest.raises(KeyError, match="of the test"):
        cubic.cubictcp_register()

    def busy(ca: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "busy")

    cubic.mock("tcp_register_congestion_control").does(busy)
    assert cubic.cubictcp_register() == -errno.EAGAIN


def test_a_mock_of_a_function_that_returns_a_pointer(unit: Load) -> None:
    cong = unit("net/ipv4/tcp_cong.c")
    duplicate = cong.mock("kstrdup").returns(None)
    assert cong.tcp_set_allowed_congestion_control("reno") == -errno.ENOMEM
    ((text, _),) = (call.args for call in duplicate.call_args_list)
    assert text != 0
    duplicate.raises(errno.EIO)
    assert cong.new("char") != 0


def test_wrong_mocks(unit: Load) -> None:
    cubic = unit(CUBIC)
    with pytest.raises(UsageError, match="did you mean tcp_slow_start"):
        cubic.mock("tcp_slow_stat")
    slow = cubic.mock("tcp_slow_start")
    with pytest.raises(UsageError, match="doesn't fit into"):
        slow.returns(1 << 32)
    with pytest.raises(UsageError, match="is no error number"):
        slow.raises(99999)
    with pytest.raises(AttributeError, match="a mock has no 'assert_caled'"):
        slow.assert_caled()


def test_more_calls_than_are_recorded(unit: Load) -> None:
    cubic = unit(CUBIC)
    register = cubic.mock("tcp_register_congestion_control").returns(0)
    for _ in range(5000):
        cubic.cubictcp_register()
    with pytest.raises(UsageError, match="more than are recorded"):
        register.assert_called()


@given(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=30))
def test_python_functions_as_callbacks(unit: Load, values: list[int]) -> None:
    sort = unit("lib/sort.c")
    array = sort.array("int", values)

    def compare(a: object, b: object) -> int:
        first, second = (x.cast("int").value for x in (a, b))  # type: ignore[attr-defined]
        return int(first > second) - int(first < second)

    sort.sort(array, len(values), 4, compare, None)
    assert list(array) == sorted(values)


def test_dependencies_of_its_own(unit: Load) -> None:
    alone = unit(CUBIC)
    assert "tcp_slow_start" in alone.mocks
    beside = unit(CUBIC, with_=["net/ipv4/tcp_cong.c"])
    assert "tcp_slow_start" not in beside.mocks
    sock = beside.new("struct tcp_sock", snd_cwnd=10, snd_ssthresh=12, snd_cwnd_clamp=100)
    assert beside["tcp_slow_start"](sock, 5) == 3
    assert sock.snd_cwnd == 12
    deep = unit(CUBIC, depth=1)
    assert "tcp_slow_start" not in deep.mocks


def test_overrunning_the_tests_memory(unit: Load) -> None:
    number = unit("lib/kstrtox.c")
    small = number.new("unsigned short")
    assert number.kstrtoull("1", 10, small) == 0
    with pytest.raises(MemoryDamage, match="behind a block of 2 bytes"):
        number.free(small)


@pytest.mark.kernel(allow_crash=True)
def test_the_units_own_memory(unit: Load) -> None:
    text = unit("lib/hexdump.c", with_=["mm/util.c"])
    copy = text["kstrdup"]("hello", 0xCC0)
    assert copy.string() == "hello"
    assert [one.size for one in text.live] == [6]
    with pytest.raises(LeakedMemory, match=r"6 bytes at .*allocation 1"):
        text.assert_no_leaks()
    text["kfree_const"](copy)
    text.assert_no_leaks()
    with pytest.raises(KernelCrash, match="double free"):
        text["kfree_const"](copy)


@pytest.mark.kernel(allow_crash=True)
def test_use_after_free_is_found_at_the_end(unit: Load) -> None:
    text = unit("lib/hexdump.c", with_=["mm/util.c"])
    copy = text["kstrdup"]("hello", 0xCC0)
    text["kfree_const"](copy)
    copy[0] = ord("j")
    with pytest.raises(KernelCrash, match="written after free"):
        text.check()


@pytest.mark.kernel(allow_crash=True)
@pytest.mark.parametrize(
    ("head", "number", "count"), [(1 << 63, 0, 0), (1, 0, 13), (1, 1 << 40, 0), (1, 900, 0)]
)
def test_calls_that_can_not_be(unit: Load, head: int, number: int, count: int) -> None:
    """The record of calls lies where a unit can write."""
    cubic = unit(CUBIC)
    mock = cubic.mock("tcp_slow_start").returns(1)
    shared = cubic.control.struct
    shared.calls[0].number, shared.calls[0].count = number, count
    shared.head = head
    with pytest.raises(BorderError, match="unit_c"):
        mock.assert_not_called()
