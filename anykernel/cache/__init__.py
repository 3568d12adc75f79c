# SPDX-License-Identifier: GPL-2.0
"""The cache: folders that are whole or absent, made by one process at a time, and believed only
as far as their checksums go."""

from anykernel.cache.disk import (
    CacheError,
    Damaged,
    digest,
    directory,
    explained,
    locked,
    place,
    remove,
    settle,
    trusted,
)
from anykernel.cache.entry import (
    LEFT_BEHIND,
    LINKED,
    MANIFEST,
    PREFIX,
    Entry,
    about,
    damage,
    listed,
    load,
    make,
    sound,
    sweep,
)

__all__ = [
    "LEFT_BEHIND",
    "LINKED",
    "MANIFEST",
    "PREFIX",
    "CacheError",
    "Damaged",
    "Entry",
    "about",
    "damage",
    "digest",
    "directory",
    "explained",
    "listed",
    "load",
    "locked",
    "make",
    "place",
    "remove",
    "settle",
    "sound",
    "sweep",
    "trusted",
]
