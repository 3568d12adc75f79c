// SPDX-License-Identifier: GPL-2.0
/* Assembly here needs no offsets; Kbuild wants the file. */
