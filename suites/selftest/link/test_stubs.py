# SPDX-License-Identifier: GPL-2.0
"""Generated stubs, each hard case compiled, linked and run."""

from __future__ import annotations

from pathlib import Path

import pytest

from anykernel.errors import BuildError
from anykernel.link.policy import Grant, Policy
from suites.selftest.link.tinyimage import Tiny

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return Tiny(tmp_path / "tree")


def grants(*some: Grant) -> Policy:
    return Policy(grants={one.symbol: one for one in some})


def grant(symbol: str, **values: str) -> Grant:
    return Grant(symbol, "it is a test", f"test.toml: [grant.{symbol}]", **values)  # type: ignore[arg-type]


def both(tiny: Tiny, declared: str, home: str, user: str) -> list[str]:
    """Runs `user`, the body of main(), without the functions of `home`."""
    (tiny.folder / "net/home").mkdir(parents=True)
    (tiny.folder / "net/home/home.h").write_text(declared)
    include = "#include <net/home/home.h>\n"
    tiny.home(include + home)
    tiny.user(
        f"#include <stdio.h>\n{include}int main(void);\nint main(void) {{ {user} return 0; }}"
    )
    return tiny.run()


# Functions


def test_integers_of_all_widths(tiny: Tiny) -> None:
    said = both(
        tiny,
        """
        signed char c(signed char a, short b, int c, long d, long long e, unsigned char f,
                      unsigned short g, unsigned h, unsigned long i);
        unsigned __int128 wide(__int128 a);
        _Bool truth(_Bool yes, _Bool no);
        char plain(char a);
        """,
        """
        signed char c(signed char a, short b, int c, long d, long long e, unsigned char f,
                      unsigned short g, unsigned h, unsigned long i)
        { return a + b + c + d + e + f + g + h + i; }
        unsigned __int128 wide(__int128 a) { return a; }
        _Bool truth(_Bool yes, _Bool no) { return yes || no; }
        char plain(char a) { return a; }
        """,
        """
        printf("%d\\n", c(-1, -2, -3, -4, -5, 0xff, 0xffff, ~0u, ~0ul));
        printf("%d\\n", (int)wide(7));
        printf("%d\\n", truth(1, 0));
        printf("%d\\n", plain('x'));
        """,
    )
    ones = "0xffffffffffffff"
    assert said == [
        f"0:c {ones}ff {ones}fe {ones}fd {ones}fc {ones}fb 0xff 0xffff 0xffffffff {ones}ff",
        "0",
        "3:wide 0x7",
        "0",
        "2:truth 0x1 0",
        "0",
        "1:plain 0x78",
        "0",
    ]


def test_pointers_arrays_and_functions_as_parameters(tiny: Tiny) -> None:
    said = both(
        tiny,
        """
        typedef int (*callback)(void *);
        void *of(const char *text, int many[4], callback call, int (*bare)(int), int f(void));
        callback choose(void);
        """,
        """
        void *of(const char *text, int many[4], callback call, int (*bare)(int), int f(void))
        { return call(many) + bare(1) + f() ? (void *)text : 0; }
        callback choose(void) { return 0; }
        """,
        """
        printf("%p\\n", of((void *)1, (void *)2, (void *)3, (void *)4, (void *)5));
        printf("%p\\n", (void *)choose());
        """,
    )
    assert said == ["1:of 0x1 0x2 0x3 0x4 0x5", "(nil)", "0:choose", "(nil)"]
    declared = {one.symbol: one.declaration for one in tiny.stubs}
    assert declared["of"] == (
        "void *of(const char *text, int *many, callback call, int (*bare)(int), int (*f)(void))"
    )


def test_enums_are_as_wide_as_they_are(tiny: Tiny) -> None:
    said = both(
        tiny,
        """
        enum plain { A, B };
        enum below { C = -1, D };
        enum __attribute__((packed)) tiny { E, F = 200 };
        enum huge { G, H = 1ul << 40 };
        enum huge of(enum plain a, enum below b, enum tiny c, enum huge d);
        """,
        """
        enum huge of(enum plain a, enum below b, enum tiny c, enum huge d)
        { return a + b + c + d; }
        """,
        'printf("%lu\\n", of(B, C, F, H));',
    )
    assert said == ["0:of 0x1 0xffffffffffffffff 0xc8 0x10000000000", "0"]


def test_variadics(tiny: Tiny) -> None:
    said = both(
        tiny,
        "int log_it(const char *format, ...); int old();",
        """
        int log_it(const char *format, ...) { return *format; }
        int old() { return 1; }
        """,
        'printf("%d\\n", log_it((void *)9, 1, 2L)); printf("%d\\n", old(1, 2));',
    )
    assert said == ["0:log_it 0x9", "0", "1:old", "0"]
    assert "int log_it(const char *format, ...)" in {one.declaration for one in tiny.stubs}


@pytest.mark.parametrize("size", [1, 3, 4, 8, 12, 16, 17, 24, 100])
def test_structs_by_value(tiny: Tiny, size: int) -> None:
    """Those of up to 16 bytes travel in registers, others in memory: the parameter behind says
    whether both sides agree."""
    said = both(
        tiny,
        f"""
        typedef struct {{ char bytes[{size}]; }} some;
        some of(long before, some it, long behind);
        """,
        "some of(long before, some it, long behind) { it.bytes[0] = before + behind; return it; }",
        """
        some it, back;
        for (unsigned i = 0; i < sizeof(it); i++) it.bytes[i] = 1;
        back = of(5, it, 7);
        int sum = 0;
        for (unsigned i = 0; i < sizeof(it); i++) sum += back.bytes[i];
        printf("%d\\n", sum);
        """,
    )
    name, before, _, behind = said[0].split()
    assert (name, before, behind) == ("0:of", "0x5", "0x7")
    assert said[1:] == ["0"]


def test_structs_of_words_and_unions_by_value(tiny: Tiny) -> None:
    said = both(
        tiny,
        """
        typedef struct { int a; long b; } pair;
        typedef union { void *p; int small; } either;
        pair of(pair one, either two, pair three, pair four, int last);
        """,
        """
        pair of(pair one, either two, pair three, pair four, int last)
        { one.a = two.small + three.a + four.a + last; return one; }
        """,
        """
        pair p = { 1, 2 }; either e = { 0 };
        p = of(p, e, p, p, 42);
        printf("%d %ld\\n", p.a, p.b);
        """,
    )
    assert said[0].endswith(" 0x2a")
    assert said[1:] == ["0 0"]


def test_structs_that_travel_otherwise(tiny: Tiny) -> None:
    """Packed ones, however small, when a member lies askew; what is aligned to 16 stays so."""
    said = both(
        tiny,
        """
        struct __attribute__((packed)) askew { char a; int b; };
        struct __attribute__((packed)) even { int a; char b; };
        struct deep { struct askew inner; char more[3]; };
        struct big { long a[4]; };
        struct wide { __int128 a; };
        struct askew of(long before, struct askew it, long behind);
        struct even off(long before, struct even it, long behind);
        struct deep in(long before, struct deep it, long behind);
        struct big large(long before, long one, int two, struct big it, long behind);
        struct wide last(long b, long c, long d, long e, long f, long g, long i, struct wide it,
                         long h);
        """,
        """
        struct askew of(long before, struct askew it, long behind)
        { it.b = before + behind; return it; }
        struct even off(long before, struct even it, long behind)
        { it.b = before + behind; return it; }
        struct deep in(long before, struct deep it, long behind)
        { it.inner.b = before + behind; return it; }
        struct big large(long before, long one, int two, struct big it, long behind)
        { it.a[0] = before + behind + one + two; return it; }
        struct wide last(long b, long c, long d, long e, long f, long g, long i, struct wide it,
                         long h)
        { it.a = b + c + d + e + f + g + i + h; return it; }
        """,
        """
        struct askew a = { 1, 2 }; struct even e = { 1, 2 }; struct deep d = { a, "x" };
        struct big b = { { 1, 2, 3, 4 } }; struct wide w = { 1 };
        a = of(5, a, 7); e = off(5, e, 7); d = in(5, d, 7); b = large(5, 1, 2, b, 7);
        w = last(1, 2, 3, 4, 5, 6, 7, w, 8);
        printf("%d %d %d %ld %ld\\n", a.b, e.b, d.inner.b, b.a[3], (long)w.a);
        """,
    )
    words = {line.split()[0].partition(":")[2]: line.split()[1:] for line in said[:-1]}
    for name in ("of", "off", "in", "large"):
        assert (words[name][0], words[name][-1]) == ("0x5", "0x7"), name
    assert words["last"][-1] == "0x8"
    assert said[-1] == "0 0 0 0 0"


def test_names_that_no_parameter_can_have(tiny: Tiny) -> None:
    said = both(
        tiny,
        "int of(int a, int b, int c, int d, long e, int f);",
        """
        int of(int true, int current, int args, int, long u64, int)
        { return true + current + args + u64; }
        """,
        'printf("%d\\n", of(1, 2, 3, 4, 5, 6));',
    )
    assert said == ["0:of 0x1 0x2 0x3 0x4 0x5 0x6", "0"]


def test_a_function_that_only_its_alias_has_a_type_of(tiny: Tiny) -> None:
    said = both(
        tiny,
        "long shown(int a, char *b);",
        """
        static long hidden(int a, char *b) { return a + *b; }
        extern long shown(int a, char *b) __attribute__((alias("hidden")));
        """,
        'printf("%ld\\n", shown(1, (void *)2));',
    )
    assert said == ["0:shown 0x1 0x2", "0"]
    assert tiny.stubs[0].declaration == "long shown(int a, char *b)"


def test_a_static_function_of_another_file_is_another(tiny: Tiny) -> None:
    """Both files have a static function twin(); the alias is of that of its own."""
    tiny.write("net/aaa/a.c", "static __attribute__((used)) void twin(long x, long y) {}")
    said = both(
        tiny,
        "int shown(char a);",
        """
        static int twin(char a) { return a; }
        extern int shown(char a) __attribute__((alias("twin")));
        """,
        'printf("%d\\n", shown(1));',
    )
    assert said == ["0:shown 0x1", "0"]


def test_a_function_that_only_an_inline_of_a_header_needs(tiny: Tiny) -> None:
    said = both(
        tiny,
        """
        int deep(int x);
        static inline int shallow(int x) { return x ? deep(x) + 1 : 0; }
        static inline int unused(int x) { extern int never(int); return never(x); }
        """,
        "int deep(int x) { return x; } int never(int); int never(int x) { return x; }",
        'printf("%d\\n", shallow(4));',
    )
    assert said == ["0:deep 0x4", "1"]
    assert tiny.symbols == ["deep"]


def test_weak_symbols_are_not_stubbed(tiny: Tiny) -> None:
    """A weak definition that is there serves; what is referred to weakly is 0 when absent."""
    tiny.home("int both(void); int both(void) { return 1; } int maybe(void) { return 2; }")
    tiny.user(
        """
        #include <stdio.h>
        int both(void);
        int maybe(void) __attribute__((weak));
        int main(void) { printf("%d %d\\n", both(), maybe ? maybe() : -1); return 0; }
        """
    )
    tiny.write("net/user/weak.c", "int __attribute__((weak)) both(void) { return 3; }")
    assert tiny.run() == ["3 -1"]
    assert tiny.stubs == []


def test_a_weak_definition_that_is_absent_is_stubbed(tiny: Tiny) -> None:
    said = both(
        tiny,
        "int far(void);",
        "int __attribute__((weak)) far(void) { return 1; }",
        'printf("%d\\n", far());',
    )
    assert said == ["0:far", "0"]


# Grants


def test_returns_and_when(tiny: Tiny) -> None:
    tiny.policy = grants(
        grant("sum", returns="a + b"),
        grant("find", returns="ERR_PTR(-ENOENT)", when="!name"),
        grant("quiet", returns=""),
        grant("zero", returns="0"),
    )
    said = both(
        tiny,
        """
        int sum(int a, int b); void *find(const char *name); void quiet(int x); void zero(void);
        void loud(void);
        """,
        """
        int sum(int a, int b) { return a * b; }
        void *find(const char *name) { return (void *)name; }
        void quiet(int x) { (void)x; } void zero(void) {} void loud(void) {}
        """,
        """
        printf("%d\\n", sum(3, 4));
        printf("%ld\\n", (long)find(0));
        find("x" + 0 ? (void *)8 : 0);
        quiet(1); zero(); loud();
        """,
    )
    assert said == [
        "3:sum granted 0x3 0x4",
        "7",
        "0:find granted 0",
        "-2",
        "0:find 0x8",
        "2:quiet granted 0x1",
        "4:zero granted",
        "1:loud",
    ]
    assert {one.symbol: one.why for one in tiny.stubs}["sum"] == "it is a test"
    assert {one.symbol: one.why for one in tiny.stubs}["loud"] == ""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (grant("of", data="zero"), "of is a function: returns or body fits"),
        (grant("pair", returns="5"), "a struct is returned: that needs a body"),
        (grant("datum", returns="1"), 'datum is a datum: only data = "zero" fits'),
    ],
)
def test_a_grant_that_does_not_fit(tiny: Tiny, wrong: Grant, said: str) -> None:
    tiny.policy = grants(wrong)
    with pytest.raises(BuildError, match=said):
        both(
            tiny,
            "int of(void); struct two { long a, b; } pair(void); extern int datum;",
            "int of(void) { return 1; } struct two pair(void) { return (struct two){}; } "
            "int datum = 4;",
            "of(); pair(); datum++;",
        )


def test_assembler_has_no_type(tiny: Tiny) -> None:
    code = ".text\n.globl bare\n.type bare,@function\nbare: ret\n.size bare,.-bare\n"
    tiny.write("net/home/bare.S", code + ".section .initcall6.init\n.long bare - .\n")
    tiny.user("void bare(void); int main(void) { bare(); return 0; }")
    with pytest.raises(
        BuildError, match=r"bare of net/home/bare.o has no type \(assembler\?\).*grant.bare\] body"
    ):
        tiny.generate()


def test_assembler_data_have_no_size(tiny: Tiny) -> None:
    code = ".globl bare\n.data\nbare: .long 5\n.section .initcall6.init\n.long bare - .\n"
    tiny.write("net/home/bare.S", code)
    tiny.user("extern int bare; int main(void) { return bare; }")
    with pytest.raises(BuildError, match=r"bare of net/home/bare.o has no size \(assembler\?\)"):
        tiny.generate()


def test_floating_point(tiny: Tiny) -> None:
    with pytest.raises(BuildError, match="a kernel passes no double"):
        both(tiny, "double d(void);", "double d(void) { return 1; }", "d();")


# Data


def test_data_are_as_they_were(tiny: Tiny) -> None:
    said = both(
        tiny,
        """
        extern int number; extern const char text[]; extern long nothing[1000];
        extern struct mixed { char a; long b[3]; short c; } mixed;
        extern const int constant; extern char wide[128]; extern struct none {} empty;
        """,
        """
        int number = -7; const char text[] = "a \\"text\\"\\\\ \\n"; long nothing[1000];
        struct mixed mixed = { 1, { 2, -1, 1L << 40 }, 3 };
        const int constant = 9; char __attribute__((aligned(4096))) wide[128] = { [100] = 5 };
        struct none empty;
        """,
        """
        long sum = 0;
        for (int i = 0; i < 1000; i++) sum += nothing[i]++;
        printf("%d %ld %s", number++, sum, text);
        printf("%d %ld %ld %d\\n", mixed.a, mixed.b[1], mixed.b[2], mixed.c);
        printf("%d %d %d\\n", constant, wide[100], (int)((long)wide & 4095));
        printf("%d\\n", &empty != 0);
        """,
    )
    assert said == ['-7 0 a "text"\\ ', "1 -1 1099511627776 3", "9 5 0", "1"]
    made = tiny.made().named
    places = {name: made[name].section for name in ("number", "constant", "nothing", "wide")}
    assert places == {
        "number": ".data", "constant": ".rodata", "nothing": ".bss", "wide": ".data",
    }  # fmt: skip
    declared = {one.symbol: (one.kind, one.declaration, one.number) for one in tiny.stubs}
    assert declared["nothing"] == ("data", "long nothing[1000]", -1)


def test_data_of_sections_of_their_own(tiny: Tiny) -> None:
    """As per-CPU data are: they stay in their section, zero or not."""
    said = both(
        tiny,
        """
        #define PERCPU __attribute__((section(".data..percpu")))
        extern int full, empty; extern int early;
        """,
        """
        int PERCPU full = 5; int PERCPU empty;
        int __attribute__((section(".data..read_mostly"))) early = 6;
        """,
        'printf("%d %d %d\\n", full++, empty++, early++);',
    )
    assert said == ["5 0 6"]
    made = tiny.made().named
    assert {made[name].section for name in ("full", "empty")} == {".data..percpu"}
    assert made["early"].section == ".data..read_mostly"


def test_data_that_point_to_others(tiny: Tiny) -> None:
    """Functions become loud, static ones, too; data and strings are copied, each once."""
    said = both(
        tiny,
        """
        struct list { struct list *next, *back; };
        struct ops {
            const char *name; int (*open)(int); int (*close)(long); int *count; const int *fixed;
            struct list list; const char *tail; struct ops *self; int *into; int (*ours)(void);
        };
        extern struct ops ops, *const again; extern int shared;
        int ours(void);
        """,
        """
        int shared = 11;
        static int counted = 12; static const int fixed = 13; static int array[4] = { 1, 2, 3 };
        int opened(int); int opened(int x) { return x + shared; }
        static int closed(long x) { return x + counted++ + array[x]; }
        struct ops ops = {
            .name = "ops", .open = opened, .close = closed, .count = &counted, .fixed = &fixed,
            .list = { &ops.list, &ops.list }, .tail = &"prefixed"[3], .self = &ops,
            .into = &array[2], .ours = ours,
        };
        struct ops *const again = &ops;
        """,
        """
        printf("%s %s %d %d %d\\n", ops.name, ops.tail, *ops.count, *ops.fixed, *ops.into);
        printf("%d\\n", ops.list.next == &ops.list && again == &ops && ops.self == &ops);
        printf("%d\\n", ops.open(1)); printf("%d\\n", ops.close(2)); printf("%d\\n", ops.ours());
        printf("%d\\n", shared);
        } int ours(void) { return 99; } int unused(void); int unused(void) {
        """,
    )
    assert said == [
        "ops fixed 12 13 3", "1", "0:opened 0x1".replace("0:", "1:"), "0",
        "0:net_home_home__closed 0x2", "0", "99", "11",
    ]  # fmt: skip
    users = {one.symbol: one.users for one in tiny.stubs}
    assert users["opened"] == ("data of net/home/home.o",)


def test_relative_pointers(tiny: Tiny) -> None:
    said = both(
        tiny,
        "extern const int table[2]; extern int a;",
        """
        int a = 21;
        asm(".section .rodata\\n.globl table\\n.type table,@object\\n.size table,8\\n"
            "table: .long a - .\\n.long a - .\\n.text");
        """,
        'printf("%d\\n", *(int *)((char *)&table[1] + table[1]));',
    )
    assert said == ["21"]


def test_aliases_of_data_are_one_datum(tiny: Tiny) -> None:
    said = both(
        tiny,
        "extern int one, two, *through, *before;",
        """
        int one = 1; extern int two __attribute__((alias("one")));
        static int inner = 5; int *before = &inner;
        extern int three __attribute__((alias("inner"))); int *through = &three;
        """,
        """
        one = 7; *before = 8;
        printf("%d %d %d\\n", two, &one == &two, *through);
        """,
    )
    assert said == ["7 1 8"]


def test_a_datum_granted_as_zeros(tiny: Tiny) -> None:
    tiny.policy = grants(grant("ops", data="zero"))
    said = both(
        tiny,
        "extern struct { int (*call)(void); long x; } ops;",
        """
        static int call(void) { return 1; }
        __typeof__(ops) ops = { call, 5 };
        """,
        'printf("%p %ld\\n", (void *)ops.call, ops.x);',
    )
    assert said == ["(nil) 0"]
    assert tiny.symbols == ["ops"]


def test_the_same_text_every_time(tiny: Tiny) -> None:
    both(
        tiny,
        "int b(void), a(void); extern int c; struct s { long x[3]; } d(void);",
        "int b(void) { return 1; } int a(void) { return 2; } int c; "
        "struct s d(void) { return (struct s){}; }",
        "a(); b(); c = 1; d();",
    )
    first = tiny.text
    tiny.generate()
    assert tiny.text == first
    assert [one.number for one in tiny.stubs if one.kind == "function"] == [0, 1, 2]
