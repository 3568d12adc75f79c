// SPDX-License-Identifier: GPL-2.0
/*
 * Jobs: tasks that repeat system calls by themselves, such as a traffic
 * generator's send() or a sink's recv().  The client only hears of their end.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "net.h"

/* Rounds without a break: then others have their turn, and the client may look on. */
#define BURST 256

static void log_round(struct job *j, uint64_t now, int64_t last)
{
	struct hk_round *log = (struct hk_round *)j->job.log;

	if (log && j->job.done < j->job.logs)
		log[j->job.done] = (struct hk_round){ j->round, now, j->result, last };
}

/* Sets the task's next request. */
static void ask(struct job *j)
{
	struct lib_task *task = &kernels[j->kernel].table[j->slot];
	struct hk_job *job = &j->job;

	task->nr = job->call[job->at].nr;
	memcpy(task->args, job->call[job->at].args, sizeof(task->args));
	if (!job->at && job->bytes && job->bytes - job->moved < task->args[2])
		task->args[2] = job->bytes - job->moved;
}

/* Whether the job goes on with another round; false: its task is free. */
static bool next_round(struct job *j, uint64_t now)
{
	struct hk_job *job = &j->job;
	uint64_t begin = job->done ? j->round + job->interval : job->begin;

	if (j->stopped || (job->rounds && job->done == job->rounds) ||
	    (job->bytes && job->moved >= job->bytes) ||
	    (job->end && (begin > now ? begin : now) >= job->end))
		return false;
	job->at = 0;
	if (j->burst_at != now) {
		j->burst_at = now;
		j->burst = 0;
	}
	if (begin > now || ++j->burst > BURST) {
		j->burst = 0;
		j->asleep = true;
		event_add((struct event){ .time = begin > now ? begin : now, .kind = EVENT_JOB,
					  .job = j, .generation = j->generation });
		return true;
	}
	j->round = job->interval && job->done ? begin : now;
	ask(j);
	kernel_request(&kernels[j->kernel], j->slot);
	return true;
}

bool engine_busy(const struct kernel *k, uint32_t task)
{
	const struct job *j = engine_has(k) ? net->members[k->index]->jobs[task] : NULL;

	return j && !j->job.over;
}

bool job_back(struct member *m, uint32_t slot)
{
	struct kernel *k = &kernels[m->kernel];
	struct job *j = m->jobs[slot];
	struct hk_job *job = &j->job;
	int64_t ret = k->table[slot].ret;
	uint64_t now = k->state.now;
	bool tolerated = job->tolerate & (1U << job->at);

	if (job->over)
		return false;
	if (k->table[slot].state == LIB_TASK_EXITED) {
		job->error = j->stopped ? 0 : -ESRCH;	/* it was killed */
		goto over;
	}
	if (!job->at) {
		j->result = ret;
		if (ret > 0) {
			job->moved += ret;
			job->first = job->first ? job->first : now;
			job->last = now;
		}
	}
	if (ret < 0 && tolerated && !j->stopped) {
		job->failed++;
	} else if (ret < 0 || (!ret && !job->at && job->call[0].args[2] && !tolerated)) {
		job->error = j->stopped ? 0 : ret;	/* 0 bytes: the end of a stream */
		goto over;
	}
	if (++job->at < job->calls) {
		ask(j);
		kernel_request(k, slot);
		return true;
	}
	log_round(j, now, ret);
	job->done++;
	header()->progress = now;
	if (next_round(j, now))
		return true;
over:
	job->over = 1;
	j->asleep = false;	/* who is killed may be */
	return false;
}

void job_event(struct event *e)
{
	struct job *j = e->job;
	struct kernel *k = &kernels[j->kernel];

	if (!j->asleep || e->generation != j->generation || k->shared->crash)
		return;
	j->asleep = false;
	j->round = j->job.interval && j->job.done ? j->round + j->job.interval : net->now;
	ask(j);
	kernel_post(k, j->slot);
}

static uint32_t start(struct hk_command *c, struct member *m)
{
	const struct hk_job *given = (const struct hk_job *)(shm + HK_IN_AT);
	struct kernel *k = &kernels[c->kernel];
	struct job *j = m->jobs[c->slot];
	uint64_t generation = j ? j->generation + 1 : 0;

	if (!given->calls || given->calls > HK_JOB_CALLS)
		return HK_BAD;
	if (k->table[c->slot].state != LIB_TASK_USER || engine_busy(k, c->slot)) {
		c->ret = -EBUSY;
		return HK_BAD;
	}
	if (!j)
		j = m->jobs[c->slot] = net_alloc(sizeof(*j));
	*j = (struct job){ .job = *given, .kernel = c->kernel, .slot = c->slot,
			   .generation = generation };
	/* What only comes out is whatever the client's memory had there. */
	memset(&j->job.over, 0, sizeof(j->job) - offsetof(struct hk_job, over));
	if (!next_round(j, net->now))
		j->job.over = 1;
	else if (!j->asleep)
		kernel_run(k);
	return HK_OK;
}

uint32_t job_command(struct hk_command *c)
{
	struct kernel *k = &kernels[c->kernel];
	struct member *m = engine_has(k) ? net->members[c->kernel] : NULL;
	struct job *j;

	if (!m || c->slot >= LIB_MAX_TASKS)
		return HK_BAD;
	if (c->op == HK_JOB)
		return start(c, m);
	j = m->jobs[c->slot];
	if (!j)
		return HK_BAD;
	if (c->op == HK_JOB_STATS) {
		memcpy(shm + HK_OUT_AT, &j->job, sizeof(j->job));
		return HK_OK;
	}
	j->stopped = true;
	if (j->asleep) {
		j->asleep = false;
		j->job.over = 1;
		engine_back(k, c->slot);	/* who waits for it goes on */
	} else if (!j->job.over) {
		kernel_cancel(k, c->slot);
		kernel_run(k);
	}
	return HK_OK;
}
