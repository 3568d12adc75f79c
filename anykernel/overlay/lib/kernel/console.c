// SPDX-License-Identifier: GPL-2.0
/* printk goes to the host, from the first line on. */
#include <linux/console.h>
#include <linux/init.h>
#include "lib.h"

static void lib_console_write(struct console *con, const char *text, unsigned int n)
{
	lib_host.console(lib_host.host, text, n);
}

static struct console lib_console = {
	.name	= "host",
	.write	= lib_console_write,
	.flags	= CON_PRINTBUFFER | CON_ENABLED | CON_ANYTIME,
	.index	= -1,
};

void __init lib_console_init(void)
{
	register_console(&lib_console);
}
