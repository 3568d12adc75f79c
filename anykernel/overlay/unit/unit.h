/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between a unit and Python: memory that both see, in the user window.  Python
 * reads this file with cffi; keep to plain structs and #define NAME number.
 */
#ifndef UNIT_H
#define UNIT_H

#define UNIT_STUBS 512
#define UNIT_CALLBACKS 8
#define UNIT_CALLS 4096
#define UNIT_ARGS 12

/* Requests beyond LIB_SYS_CALL, in lib_task.nr; its result when a stub asks. */
#define UNIT_ANSWER 0x20000	/* args[0], args[1]: what the asking stub returns */
#define UNIT_CONTROL 0x20001	/* args[0]: struct unit_control * */
#define UNIT_ASKS 1

/* What a stub does when it is called. */
#define UNIT_LOUD 0	/* what a policy grants, or fail the test */
#define UNIT_RETURNS 1	/* return `value` */
#define UNIT_ASK 2	/* let Python say */

struct unit_stub {
	uint64_t mode;
	uint64_t value[2];
};

struct unit_call {
	uint64_t number;
	uint64_t count;
	uint64_t args[UNIT_ARGS];
};

struct unit_control {
	uint64_t head;		/* calls so far */
	uint64_t asking;	/* address of the struct unit_call that waits */
	struct unit_stub stubs[UNIT_STUBS];
	struct unit_call calls[UNIT_CALLS];
};

/* Allocations that fail on purpose. */
struct unit_failing {
	uint64_t seen;
	uint64_t from, to;	/* those that fail; from == 0: none is counted */
	uint64_t failed;
};

#endif
