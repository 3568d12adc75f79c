// SPDX-License-Identifier: GPL-2.0
/* The plain questions of the public interface. */
#include <linux/init.h>
#include <linux/utsname.h>
#include "lib.h"

extern const char linux_banner[];

const struct lib_state *lib_get_state(void)
{
	return &lib_state;
}

const char *lib_version(void)
{
	return linux_banner;
}
