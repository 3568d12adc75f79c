# SPDX-License-Identifier: GPL-2.0
"""For all suites: pytest's helper for tests of plugins, and one cache for inner runs."""

import os

from anykernel.settings import settings

pytest_plugins = ["pytester"]

# Tests that run pytest or the command line within a home of their own use the kernels of this
# run: a test must never build one for itself.
os.environ["ANYKERNEL_CACHE"] = str(settings().cache_dir)
os.environ["CCACHE_DIR"] = str(settings().ccache_dir)
