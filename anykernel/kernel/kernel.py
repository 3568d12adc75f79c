# SPDX-License-Identifier: GPL-2.0
"""The kernel under test, as tests see it."""

from __future__ import annotations

import errno
import os
import re
import socket as pysocket
import stat
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from anykernel.errors import UsageError
from anykernel.host.snapshots import Snapshot, check_above
from anykernel.host.stretch import Stretch, Stretches
from anykernel.kernel.background import Workers
from anykernel.kernel.call import alone
from anykernel.kernel.clock import Clock
from anykernel.kernel.inside import inside, program
from anykernel.kernel.log import Log
from anykernel.kernel.process import Process
from anykernel.kernel.rtnl import LinkInfo, Rtnl, interface
from anykernel.typed import Names

if TYPE_CHECKING:
    from anykernel.build.image import Image
    from anykernel.host import Instance
    from anykernel.kernel.code import Code
    from anykernel.kernel.netdev import Netdev
    from anykernel.kernel.tun import Tun

LOOPBACK = 1
DEVICES = {
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
    "kmsg": (1, 11), "net/tun": (10, 200),
}  # fmt: skip
"""Files of /dev where a kernel without devtmpfs makes none by itself, and their numbers
(Documentation/admin-guide/devices.txt)."""
DEFAULT_LEVEL, ALL_LEVELS = "7", "8"
"""What the console is told: messages below these."""
MOUNTS = (
    ("/proc", "proc"),
    ("/sys", "sysfs"),
    ("/tmp", "tmpfs"),
    ("/dev", "devtmpfs"),
    ("/dev/pts", "devpts"),
    ("/dev/shm", "tmpfs"),
)
CONFIGURED = ("devtmpfs", "devpts")
"""Those that a kernel may be configured without."""
GIVEN = (("/sys/fs/cgroup", "cgroup2"), ("/sys/fs/bpf", "bpf"))
"""What init systems mount, too, where sysfs has a place for it."""


class Saved(NamedTuple):
    """Python's side of a snapshot."""

    netdevs: dict[int, Netdev]
    workers: Any
    log: tuple[int, int, int]
    macs: int


class Kernel(Process):
    """A booted Linux kernel: its first process (root, pid 1), its devices, its clock and its log.

    /proc, /sys, /dev and /tmp are mounted and the loopback device is up.  Memory, time and
    randomness are the kernel's own; nothing of the machine is touched.
    """

    def __init__(self, instance: Instance, image: Image) -> None:
        super().__init__(instance, 0, Workers(), None)
        self.image = image
        self.clock = Clock(instance, self._workers)
        self.log = Log(instance)
        self._stretches = Stretches()
        self._netdevs: dict[int, Netdev] = {}
        self._macs = 0
        self._saved: list[Saved] = []
        self.floor = 0
        """The deepest snapshot of who lends this kernel; a test can't drop it or go behind it."""
        self._iproutes: WeakKeyDictionary[threading.Thread, tuple[Stretch, Any]] = (
            WeakKeyDictionary()
        )
        self._prepare()

    def __repr__(self) -> str:
        return f"<Kernel {self.image.release} at {self.clock.seconds:.6f} s>"

    def _prepare(self) -> None:
        if not self.os.exists("/proc/self"):
            for folder, kind in MOUNTS:
                self._mount(folder, kind)
            for folder, kind in GIVEN:
                with suppress(OSError):
                    self.os.mount(kind, folder, kind)
        self._log_all()
        if self.os.exists("/proc/net/dev"):
            with Rtnl(self) as rtnl:
                rtnl.up(LOOPBACK)

    def _mount(self, folder: str, kind: str) -> None:
        with suppress(FileExistsError):
            self.os.mkdir(folder)
        try:
            self.os.mount(kind, folder, kind)
        except OSError as error:
            if kind not in CONFIGURED or error.errno != errno.ENODEV:
                raise
            if kind == "devtmpfs":
                self._make_devices()

    def _make_devices(self) -> None:
        """The files of /dev that programs expect.  Without one, writing to /dev/kmsg would make a
        plain file there, and the text be lost."""
        with suppress(FileExistsError):
            self.os.mkdir("/dev/net")
        mask = self.syscall("umask", 0)
        for name, numbers in DEVICES.items():
            with suppress(FileExistsError):
                self.os.mknod(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(*numbers))
        self.syscall("umask", mask)

    def _log_all(self) -> None:
        """Lets the console be told messages of all levels."""
        level = "/proc/sys/kernel/printk"
        if self.os.exists(level) and self.read_text(level).split()[:1] == [DEFAULT_LEVEL]:
            # The log is to have what was printed, debugging too; whoever said `quiet` has it so.
            self.write_text(level, ALL_LEVELS)

    @property
    def release(self) -> str:
        """The version, as uname -r says it."""
        return self.os.uname().release

    @cached_property
    def config(self) -> Mapping[str, str]:
        """The kernel's configuration: {"CONFIG_NET": "y", ...}, without what isn't set."""
        found: dict[str, str] = {}
        for line in self.image.config.read_text().splitlines():
            name, equals, value = line.partition("=")
            if equals and not name.startswith("#"):
                found[name] = value.strip('"')
        return found

    # Snapshots

    @alone
    def snapshot(self) -> Snapshot:
        """Saves the state; restore() comes back to it as often as wanted, drop() forgets it.
        ``with kernel.snapshot():`` does both at the end of the block.  Snapshots nest; raises
        UsageError when there is no room for more of them."""
        self.close_collected()
        number = self.instance.snapshot()
        self._save()
        return Snapshot(number, self)

    def _save(self) -> None:
        """Python's side of a snapshot that was taken."""
        log = self.log.save()
        self._saved.append(Saved(dict(self._netdevs), self._workers.save(), log, self._macs))
        self._stretches.save()

    @alone
    def restore(self, snapshot: int) -> None:
        """Back to a snapshot, in microseconds; deeper ones are gone, this one stays.

        Sockets, files, netdevs and calls that were made since are no more: using one raises
        UsageError.  Raises UsageError for a snapshot that is gone.
        """
        self._check_snapshot(snapshot)
        check_above(self.floor, snapshot)
        self.instance.restore(snapshot)
        self._load(snapshot)

    def _load(self, snapshot: int) -> None:
        """Python's side of a snapshot that was restored."""
        self._stretches.restore(snapshot)
        del self._saved[snapshot:]
        saved = self._saved[-1]
        self._netdevs = dict(saved.netdevs)
        self._macs = saved.macs
        self._workers.load(saved.workers)
        self.log.load(saved.log)

    @alone
    def drop(self, snapshot: int) -> None:
        """Forgets a snapshot and deeper ones; the kernel and all that was made stay as they are.
        Raises UsageError for a snapshot that is gone."""
        self._check_snapshot(snapshot)
        check_above(self.floor + 1, snapshot)
        self.instance.drop(snapshot)
        self._forget(snapshot)

    def _forget(self, snapshot: int) -> None:
        """Python's side of a snapshot that was dropped."""
        self._stretches.drop(snapshot)
        del self._saved[snapshot - 1 :]

    def _check_snapshot(self, snapshot: int) -> None:
        if not 0 < snapshot <= len(self._saved):
            raise UsageError(
                f"there is no snapshot {snapshot}: restoring one drops those taken after it"
            )

    # Its inside

    @cached_property
    def prog(self) -> Any:
        """A drgn.Program over the kernel's memory, as it is at the moment of each look:
        ``kernel.prog["init_net"].ipv4.sysctl_ip_default_ttl``; drgn's Linux helpers work on it."""
        return program(self.instance, self.image)  # type: ignore[arg-type]

    @cached_property
    def inside(self) -> Names:
        """The kernel's functions and variables by name: ``kernel.inside.int_sqrt(144)``."""
        return inside(self.instance, self.image)  # type: ignore[arg-type]

    def c(self, source: str | Path) -> Code:
        """Puts C into the running kernel, as a module would be:
        ``kernel.c("long go(long a) { return a + 1; }").go(1)``.

        It is compiled with the image's headers (linux/kernel.h, module.h and slab.h are included)
        and flags; it may use all functions and variables of the kernel, static and not exported
        ones too; what it gives to module_init() runs at once.  `source`: the text, or its file.
        A restore takes it back, code and data.  Raises BuildError with what the compiler says,
        UsageError for names that the kernel doesn't have and when there is no room, OSError for
        what module_init()'s function returns.
        """
        from anykernel.kernel.code import load

        return load(self, source)

    # Network

    @alone
    def add_netdev(
        self,
        name: str = "eth%d",
        *,
        mac: str | bytes | None = None,
        mtu: int = 1500,
        addresses: Iterable[str] = (),
        up: bool = True,
        carrier: bool = True,
        ipv6_chatter: bool = True,
        features: Iterable[str] | None = None,
        super_frames: bool = False,
    ) -> Netdev:
        """Adds an Ethernet device whose other end is the test.

        `mac`: "02:00:00:00:00:01" and so on when not given.  `addresses` have a prefix length
        ("10.0.0.1/24", "fd00::1/64") and are usable at once.  Without `ipv6_chatter` IPv6 says
        nothing unasked on it: there is no IPv6 without an IPv6 address; with one, 0.25 s pass, in
        which the device reports its multicast groups, and nothing follows.

        `features`: what its hardware can, by ethtool's names (anykernel.kernel.features.FEATURES,
        and all of them when not given); all are on at first.  What the stack leaves to it, it does:
        frames on the wire are segments with checksums and tags.  With `super_frames` the segments
        of TCP and UDP are sent as the one frame that they would be cut from, of up to 64 KiB.

        Raises UsageError for impossible values, OSError for what the kernel refuses
        (FileExistsError: the name is taken).
        """
        from anykernel.kernel.features import mask
        from anykernel.kernel.netdev import Netdev, parse_mac

        bits = mask(features)
        if not re.fullmatch(r"[^\s/:\0]{1,15}", name):
            raise UsageError(f"{name!r} is no name for a device: 1 to 15 characters, no space or /")
        if not 68 <= mtu <= 65535:
            raise UsageError(f"the MTU must be 68 to 65535 bytes, not {mtu}")
        addresses = (addresses,) if isinstance(addresses, str) else tuple(addresses)
        for address in addresses:
            interface(address)  # a wrong one is found before the device is there
        if mac is None:
            mac = self._next_mac()
        raw = parse_mac(mac)
        dev, ifindex = self.instance.netdev_add(name, raw, mtu, carrier, bits, super_frames)
        real = self._ifname(ifindex) if "%" in name else name
        made = Netdev(self, dev, LinkInfo(ifindex, real, mtu, raw, raw, False, carrier, {}))
        self._netdevs[dev] = made
        if not ipv6_chatter:
            made.hush(addresses)
        if up or addresses:
            with Rtnl(self) as rtnl:
                if up:
                    rtnl.up(ifindex)
                for address in addresses:
                    rtnl.add_address(ifindex, address)
        made.reported(addresses)
        return made

    @alone
    def add_tun(
        self,
        name: str = "tun%d",
        *,
        tap: bool = False,
        mtu: int | None = None,
        addresses: Iterable[str] = (),
        up: bool = True,
    ) -> Tun:
        """Adds a tun device, whose user the test is: the kernel's IP packets are read and given
        in Python; with `tap`, Ethernet frames.  Raises UsageError where the kernel has none (TUN),
        OSError for what it refuses."""
        from anykernel.kernel.tun import add_tun

        return add_tun(self, name, tap, addresses, mtu, up)

    def _next_mac(self) -> bytes:
        self._macs += 1
        return b"\x02\0\0" + self._macs.to_bytes(3, "big")

    def _ifname(self, index: int) -> str:
        with self.socket(pysocket.AF_INET, pysocket.SOCK_DGRAM) as sock:
            request = bytearray(struct.pack("=16xi", index).ljust(40, b"\0"))
            self.syscall("ioctl", sock.fileno(), 0x8910, request)
        return bytes(request[:16]).split(b"\0")[0].decode()

    def record(self) -> None:
        """What passes its netdevs is recorded from now on; of a lone kernel it always is."""

    @property
    def netdevs(self) -> Mapping[str, Netdev]:
        """The devices that add_netdev() made, by the names that they have now."""
        return {netdev.name: netdev for netdev in self._netdevs.values()}

    def look(self, netdev: Netdev) -> tuple[LinkInfo, int | None]:
        """Where one of them is now; see places.find()."""
        from anykernel.kernel.places import find

        others = {one.last.ifindex for one in self._netdevs.values() if one is not netdev}
        with self.exclusive():
            return find(self, netdev.last, others)

    def forget(self, netdev: Netdev) -> None:
        """A device was removed."""
        self._netdevs.pop(netdev.dev, None)

    @property
    def iproute(self) -> Any:
        """pyroute2's IPRoute over the kernel's netlink:
        ``kernel.iproute.link("add", ifname="br0", kind="bridge")``."""
        thread = threading.current_thread()  # pyroute2's objects are of one
        state, made = self._iproutes.get(thread, (None, None))
        if state is None or not state.alive:
            made = self.netlink()
            self._iproutes[thread] = self.state, made
        return made

    @contextmanager
    def _ip(self) -> Iterator[Any]:
        yield self.iproute

    @property
    def warnings(self) -> int:
        """How often the kernel warned (WARN, lockdep, ...) since its boot."""
        return self.instance.warnings
