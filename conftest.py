# SPDX-License-Identifier: GPL-2.0
"""Makes pytest's own test helper available to the plugin's tests."""

pytest_plugins = ["pytester"]
