// SPDX-License-Identifier: GPL-2.0
/* From lib_init() to start_kernel(), and the machine's few properties. */
#include <linux/export.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/panic_notifier.h>
#include <linux/reboot.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/utsname.h>
#include <asm/sections.h>
#include <asm/setup.h>
#include "lib.h"

struct lib_host_ops lib_host;
struct lib_boot lib_boot_info;
struct lib_state lib_state = { .version = LIB_ABI_VERSION, .size = sizeof(lib_state) };

int lib_init(const struct lib_host_ops *ops, const struct lib_boot *boot)
{
	if (ops->version != LIB_ABI_VERSION || boot->version != LIB_ABI_VERSION)
		return -EPROTO;
	if (ops->size < sizeof(*ops) || boot->size < sizeof(*boot))
		return -EINVAL;
	if (!PAGE_ALIGNED(boot->memory) || boot->memory_size < SZ_16M ||
	    boot->memory_size % SZ_4M)
		return -EINVAL;
	if (lib_host.version)
		return -EBUSY;
	lib_host = *ops;
	lib_boot_info = *boot;
	if (boot->cmdline)
		strscpy(boot_command_line, boot->cmdline, COMMAND_LINE_SIZE);
	return lib_boot_kernel();
}

static int lib_panic(struct notifier_block *nb, unsigned long event, void *message)
{
	lib_host.crash(lib_host.host, LIB_CRASH_PANIC, message);
	return NOTIFY_DONE;
}

static struct notifier_block lib_panic_block = {
	.notifier_call	= lib_panic,
	.priority	= INT_MAX,
};

void __init setup_arch(char **cmdline_p)
{
	*cmdline_p = boot_command_line;
	atomic_notifier_chain_register(&panic_notifier_list, &lib_panic_block);
	lib_console_init();
	setup_initial_init_mm(_stext, _etext, _edata, _end);
	lib_memory_init();
}

static void __noreturn lib_halt(const char *what)
{
	lib_host.crash(lib_host.host, LIB_CRASH_HALT, what);
	unreachable();
}

void machine_restart(char *cmd)
{
	lib_halt("restart");
}

void machine_halt(void)
{
	lib_halt("halt");
}

void machine_power_off(void)
{
	lib_halt("power off");
}

void (*pm_power_off)(void);
EXPORT_SYMBOL(pm_power_off);

static int show_cpuinfo(struct seq_file *m, void *v)
{
	seq_puts(m, "processor\t: 0\nmodel name\t: liblinux\n\n");
	return 0;
}

static void *c_start(struct seq_file *m, loff_t *pos)
{
	return *pos < 1 ? &lib_state : NULL;
}

static void *c_next(struct seq_file *m, void *v, loff_t *pos)
{
	++*pos;
	return c_start(m, pos);
}

static void c_stop(struct seq_file *m, void *v)
{
}

const struct seq_operations cpuinfo_op = {
	.start	= c_start,
	.next	= c_next,
	.stop	= c_stop,
	.show	= show_cpuinfo,
};
