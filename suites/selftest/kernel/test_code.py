# SPDX-License-Identifier: GPL-2.0
"""kernel.c(): C of a test runs in the kernel as a module's would, and a restore takes it back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from anykernel.errors import BuildError, KernelCrash, UsageError
from anykernel.kernel import Kernel
from anykernel.link.symbols import Symbols

COUNTER = """
static long counter = 40, zero;
static const char *const words[] = { "zero", "one" };
static int (*const measure[])(const char *) = { (void *)strlen };

long count(long by)
{
	counter += by;
	return counter + zero++;
}

static long length(long which) { return measure[0](words[which]); }
"""


def line_of(text: str) -> int:
    """Where this file has it first."""
    lines = Path(__file__).read_text().splitlines()
    return 1 + next(number for number, line in enumerate(lines) if text in line)


def test_functions_and_variables(kernel: Kernel) -> None:
    code = kernel.c(COUNTER)
    assert [code.count(2), code.count(-1)] == [42, 42]
    assert (code.counter.value, code.zero.value) == (41, 2)
    code.counter.value = -7
    assert code.count(0) == -5
    assert code.length(0) == 4 and code["length"](1) == 3
    assert code.words[1].string() == "one"


def test_types_are_those_of_the_kernel(kernel: Kernel) -> None:
    kernel.add_netdev("eth0", mtu=1280)
    code = kernel.c("""
        #include <linux/netdevice.h>
        #include <net/net_namespace.h>

        struct pair { short a; u64 b; };

        struct net_device *find(const char *name) { return dev_get_by_name(&init_net, name); }
        unsigned int mtu_of(struct net_device *dev) { dev_put(dev); return dev->mtu; }
        u64 sum(struct pair *pair) { return pair->a + pair->b; }
        struct pair pair = { -3, 10 };
        bool is(unsigned char c) { return c == 255; }
    """)
    device = code.find("eth0")
    assert device.name.string() == "eth0"
    assert code.mtu_of(device) == 1280
    assert code.sum(code.pair) == 7
    code.pair.a = 5
    assert code.sum(code.pair) == 15
    assert code["is"](255) is True
    with pytest.raises(UsageError, match="c: "):
        code["is"](256)
    assert not code.find("none")


def test_what_modules_do(kernel: Kernel) -> None:
    code = kernel.c("""
        #include <linux/proc_fs.h>
        #include <linux/seq_file.h>
        #include <linux/timer.h>

        static int fired;
        static char buffer[100000];
        static void fire(struct timer_list *timer);
        static DEFINE_TIMER(timer, fire);
        static void fire(struct timer_list *unused) { fired++; }
        static int show(struct seq_file *m, void *v) { seq_puts(m, "shown\\n"); return 0; }

        static int __init begin(void)
        {
            buffer[sizeof(buffer) - 1] = 1;
            pr_info("a module begins\\n");
            proc_create_single("of_the_test", 0444, NULL, show);
            return mod_timer(&timer, jiffies + HZ);
        }
        module_init(begin);

        static void __exit end(void)
        {
            remove_proc_entry("of_the_test", NULL);
            pr_info("a module ends\\n");
        }
        module_exit(end);
        MODULE_LICENSE("GPL");
    """)
    assert "a module begins" in kernel.log
    assert kernel.read_text("/proc/of_the_test") == "shown\n"
    assert code.fired.value == 0
    kernel.clock.advance(2)
    assert code.fired.value == 1
    code.unload()
    assert "a module ends" in kernel.log
    assert not kernel.os.exists("/proc/of_the_test")
    with pytest.raises(UsageError, match="was unloaded"):
        code.fired.value
    with pytest.raises(UsageError, match="was unloaded"):
        code.unload()


def test_an_init_that_fails_says_so(kernel: Kernel) -> None:
    with pytest.raises(FileExistsError, match="module_init"):
        kernel.c("static int begin(void) { return -EEXIST; } module_init(begin);")


def test_several_are_there_at_once(kernel: Kernel) -> None:
    codes = [kernel.c(f"static long n = {n}; long next(void) {{ return n++; }}") for n in (10, 20)]
    codes.append(kernel.c("long next(void) { return 30; }"))
    assert [code.next() for code in codes] == [10, 20, 30]
    assert [code.next() for code in codes] == [11, 21, 30]
    places = [(int(code["next"]), int(code["n"])) for code in codes[:2]]
    assert len(set(sum(places, ()))) == 4


def test_a_restore_takes_back_code_and_data(kernel: Kernel) -> None:
    before = kernel.instance.memory_hash()
    with kernel.snapshot():
        code = kernel.c(COUNTER)
        inside = kernel.snapshot()
        assert code.count(1) == 41
        other = kernel.c("static int a[5000]; long other(void) { return a[0]++; }")
        assert other.other() == 0
        kernel.restore(inside)
        assert code.count(1) == 41
        with pytest.raises(UsageError, match="restored away"):
            other.other()
        code.unload()
        kernel.restore(inside)
        again = kernel.c("long go(void) { return 5; }")
        assert (code.count(1), again.go()) == (41, 5)
    assert kernel.instance.memory_hash() == before
    for use in (lambda: code.count(1), lambda: code.counter.value, code.unload):
        with pytest.raises(UsageError, match="restored away"):
            use()
    assert "no more" in repr(code)


def test_the_same_places_and_memory_each_time(kernel: Kernel) -> None:
    found = set()
    for _ in range(2):
        with kernel.snapshot():
            code = kernel.c(COUNTER)
            code.count(3)
            found.add((int(code["count"]), int(code["counter"]), kernel.instance.memory_hash()))
    assert len(found) == 1


def test_an_error_has_the_tests_own_lines(kernel: Kernel) -> None:
    with pytest.raises(BuildError) as error:
        kernel.c("""
            long go(long a)
            {
                return a + undeclared_here;
            }
        """)
    line = line_of("return a + undeclared_here;")
    assert f"{Path(__file__).name}:{line}:28: error: " in str(error.value)
    assert "return a + undeclared_here;" in str(error.value)
    with pytest.raises(BuildError, match=r"given\.c:2:.*error: implicit declaration of function"):
        kernel.c("\n".join(["long go(void) {", "return nobody();", "}"]))


def test_what_the_kernel_lacks_is_named(kernel: Kernel) -> None:
    with pytest.raises(UsageError, match=r"no function or variable 'tcp_sendmesg'.*tcp_sendmsg"):
        kernel.c("long tcp_sendmesg(void); long go(void) { return tcp_sendmesg(); }")


def test_static_functions_of_the_kernel_can_be_used(kernel: Kernel) -> None:
    """Which of several isn't guessed."""
    code = kernel.c("""
        void cubictcp_state(void);
        u64 of(void) { return (u64)cubictcp_state; }
    """)
    assert code.of() == int(kernel.inside.cubictcp_state)
    symbols = Symbols.of(kernel.image.vmlinux)
    name = next(
        name
        for name in symbols.addresses
        if name.isidentifier() and name not in symbols.shared and len(symbols.static(name)) > 1
    )
    with pytest.raises(UsageError, match=rf"'{name}' is static in \d+ files"):
        kernel.c(f"extern int {name}(void); int go(void) {{ return {name}(); }}")


def test_code_that_is_too_large(kernel: Kernel) -> None:
    with pytest.raises(UsageError, match="bytes of code and constants, and of the"):
        kernel.c("const char table[1 << 20] = { 1 }; char go(long at) { return table[at]; }")
    with pytest.raises(UsageError, match="no memory left"):
        kernel.c("char table[1 << 30]; char go(long at) { return table[at]; }")


def test_a_file(kernel: Kernel, tmp_path: Path) -> None:
    path = tmp_path / "mine.c"
    path.write_text("#include <linux/math.h>\nlong go(long a) { return int_sqrt(a); }\n")
    assert kernel.c(path).go(144) == 12
    path.write_text("\nlong go(long a) { return }\n")
    with pytest.raises(BuildError, match=r"mine\.c:2:26: error"):
        kernel.c(path)
    with pytest.raises(UsageError, match=r"absent\.c can't be read"):
        kernel.c(tmp_path / "absent.c")


@pytest.mark.kernel(allow_crash=True)
def test_a_crash_names_function_and_line(kernel: Kernel) -> None:
    code = kernel.c("""
        static noinline long deeper(long *where)
        {
            schedule();
            *where = 1;  /* here it ends */
            return cond_resched();
        }

        long go(long address)
        {
            return deeper((long *)address) + 1;
        }
    """)
    with pytest.raises(KernelCrash) as crash:
        code.go(8)
    report = crash.value.report
    name = Path(__file__).name
    assert report.frames[0].startswith("deeper+0x")
    assert f"{name}:{line_of('here it ends')})" in report.frames[0]
    assert report.frames[1].startswith("go+0x")
    assert f"{name}:{line_of('deeper((long *)address) + 1;')})" in report.frames[1]
    assert "*where = 1;  /* here it ends */" in report.summary()


@pytest.mark.kernel(allow_warnings=True)
def test_a_warning_names_function_and_line(kernel: Kernel) -> None:
    from anykernel.plugin.complaint import complaint

    code = kernel.c("""
        long go(long bad)
        {
            WARN(bad, "as it should not be\\n");
            return 0;
        }
    """)
    code.go(0)
    assert not kernel.log.failures()
    code.go(1)
    text = complaint("", kernel, kernel.log.failures())
    assert "go+0x" in text and f"{Path(__file__).name}:{line_of('WARN(bad,')}" in text


def test_what_was_compiled_is_cached(kernel: Kernel) -> None:
    """In milliseconds: no compiler runs."""
    source = f"long go(void) {{ return {time.time_ns()}; }}"
    with kernel.snapshot():
        kernel.c(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        assert str(kernel.c(source).go()) in source


def test_constants_are_read_only(kernel: Kernel) -> None:
    code = kernel.c("const int fixed = 3; int go(void) { return *(volatile const int *)&fixed; }")
    code.fixed.value = 4  # a test may
    assert code.go() == 4
