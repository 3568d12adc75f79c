// SPDX-License-Identifier: GPL-2.0
/*
 * An init without a user space: /init is a file of our own format whose loading
 * makes pid 1 a host-owned task.
 */
#include <linux/binfmts.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/sched.h>
#include <linux/task_work.h>
#include "lib.h"

static const char magic[] = "\177liblinux-init\n";

static int load_init(struct linux_binprm *bprm)
{
	int err;

	if (memcmp(bprm->buf, magic, sizeof(magic) - 1))
		return -ENOEXEC;
	err = begin_new_exec(bprm);
	if (err)
		return err;
	setup_new_exec(bprm);
	finalize_exec(bprm);
	return lib_user_memory_map();
}

static struct linux_binfmt init_format = {
	.load_binary = load_init,
};

static int __init make_init(void)
{
	struct file *file;
	loff_t pos = 0;
	ssize_t n;

	register_binfmt(&init_format);
	file = filp_open("/init", O_CREAT | O_WRONLY, 0755);
	if (IS_ERR(file))
		return PTR_ERR(file);
	n = kernel_write(file, magic, sizeof(magic) - 1, &pos);
	filp_close(file, NULL);
	/* The last fput is task work; an exec before it would be ETXTBSY. */
	task_work_run();
	return n < 0 ? n : 0;
}
late_initcall(make_init);
