# SPDX-License-Identifier: GPL-2.0
"""The door of the pytest plugin: hands pytest the hooks of each concern."""
