# SPDX-License-Identifier: GPL-2.0
"""Fixtures: hosts that run the fake kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from anykernel.build.image import Image
from anykernel.host import Host, Instance
from suites.selftest.host import fake

MEMORY = 16 << 20
HostFactory = Callable[..., Host]


@pytest.fixture(scope="session")
def fake_image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return fake.build(tmp_path_factory.mktemp("fake"))


@pytest.fixture
def start(fake_image: Image) -> Iterator[HostFactory]:
    """Starts hosts of the fake kernel, with Host's options; all are closed afterwards."""
    hosts: list[Host] = []

    def start(**options: object) -> Host:
        made = Host(fake_image, **{"memory": MEMORY, **options})  # type: ignore[arg-type]
        hosts.append(made)
        return made

    yield start
    for host in hosts:
        host.close()


@pytest.fixture
def host(start: HostFactory) -> Host:
    return start()


@pytest.fixture
def instance(host: Host) -> Instance:
    return host.instances[0]
