# SPDX-License-Identifier: GPL-2.0
"""The door of the pytest plugin: options first, the rest when pytest is configured.

Nothing here, nor in the modules it registers, imports the kernel side: that happens when a
test asks for the first kernel.
"""

import pytest

from anykernel.plugin import options


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    from anykernel.plugin import crash, debug, fixtures, live, ns3, report, reset, scopes, stubs

    options.configure(config)
    live.configure(config)
    debug.configure(config)
    for module in (fixtures, ns3, reset, crash, report, stubs, scopes, live, debug):
        config.pluginmanager.register(module, f"anykernel-{module.__name__.rpartition('.')[2]}")


def pytest_report_header(config: pytest.Config) -> str:
    return f"anykernel: {options.defaults(config).describe()}"
