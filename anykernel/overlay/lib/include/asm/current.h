/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_LIB_CURRENT_H
#define _ASM_LIB_CURRENT_H

#ifndef __ASSEMBLY__
struct task_struct;
/* One host thread runs the kernel, so the running task is a plain variable. */
extern struct task_struct *lib_current;
#define get_current()	lib_current
#define current		lib_current
#endif

#endif
