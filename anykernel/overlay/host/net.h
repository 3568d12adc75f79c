/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The state of anykernel's own engine.  All of it lies in one arena at a fixed
 * address, so that saving and restoring a network is copying the arena's used
 * part, pointers included.
 */
#ifndef HOST_NET_H
#define HOST_NET_H

#include "engine.h"

#define ARENA_AT ((uint8_t *)0x100000000UL)
#define ARENA_SIZE 0x20000000UL
#define CLASSES 32

/* A frame on its way; what is behind refs has the form that kernels are given. */
struct flight {
	uint32_t refs;
	uint32_t length;
	uint8_t data[];
};

struct pipe {
	struct hk_pipe with;
	uint64_t busy_until;	/* its last bit leaves then */
	uint64_t last_arrival;
	uint64_t rng;
	uint64_t *leaves;	/* ring, of `room`: when those that wait begin */
	uint64_t room;		/* with.limit, or more if that was more */
	uint32_t leave_head, leave_count;
	struct hk_pipe_stats stats;
};

struct port {
	uint32_t number;
	uint32_t kernel, dev;
	struct link *link;
	struct port *next;	/* of the same link */
	struct pipe out, back;	/* from the netdev; to it, behind a switch */
	uint64_t generation;	/* grows when it is unplugged */
	bool asks, plugged, wakes;
};

struct station {
	uint64_t mac;		/* 0: unused */
	uint64_t seen;
	struct port *port;
};

struct link {
	uint32_t number;
	uint32_t kind;
	uint32_t snap;
	bool up;
	uint64_t generation;	/* grows when it goes down: what is on it is lost */
	struct port *ports, *last;
	uint64_t busy_until;	/* of a segment */
	struct station *stations;	/* of a switch: open addressing */
	uint32_t station_mask, station_count;
};

enum event_kind {
	EVENT_ARRIVES,	/* flight, at port */
	EVENT_SWITCHED,	/* flight, that came in by port */
	EVENT_DEPARTS,	/* flight, that a verdict held back, from port */
	EVENT_ROOM,	/* port's netdev may send again */
	EVENT_JOB	/* job's next round */
};

struct event {
	uint64_t time, number;
	uint32_t kind;
	uint64_t generation;
	struct flight *flight;
	struct port *port;
	struct job *job;
};

struct job {
	struct hk_job job;
	uint32_t kernel, slot;
	bool stopped, asleep;
	uint64_t generation;	/* grows with each job of the task */
	uint64_t round;		/* when the present one began */
	int64_t result;		/* of its first call */
	uint64_t burst_at;	/* rounds that began at that time */
	uint32_t burst;
};

/* A kernel that has joined. */
struct member {
	uint32_t kernel;
	uint32_t place;		/* in net->queue */
	uint64_t deadline;
	uint64_t back[LIB_MAX_TASKS / 64];	/* tasks in net->backs */
	uint64_t gone[LIB_MAX_TASKS / 64];	/* those whose end was told */
	uint32_t tasks;		/* slots that ever were in use */
	struct job *jobs[LIB_MAX_TASKS];
	struct port *ports[LIB_MAX_NETDEVS];
};

/* A frame that waits for the client's verdict. */
struct asked {
	uint64_t id;
	struct port *port;
	struct flight *flight;
	uint64_t time;
	struct asked *next;
};

struct net {
	uint64_t top;		/* of the arena */
	void *free[CLASSES];
	uint64_t now, trace, numbers;
	struct event *events;	/* heap by time, then number */
	uint32_t event_count, event_room;
	uint32_t chances;	/* how often an event was engine_wakeup()'s answer */
	struct member **members;	/* by kernel */
	struct member **queue;	/* heap by deadline, then kernel */
	uint32_t queued;
	struct link **links;
	uint32_t link_count, link_room;
	struct port **ports;
	uint32_t port_count, port_room;
	struct hk_back *backs;
	uint32_t back_count, back_room;
	struct asked *asked, **asked_end;
};

extern struct net *const net;
extern struct kernel *kernels;

/* net.c: memory and events.  The first two are what engine.h has under their names,
 * unless another engine says when they have a turn. */
void net_prepare(void);
bool net_step(uint64_t limit);
void *net_alloc(size_t size);
void net_free(void *p, size_t size);
/* Room for `count` + 1 entries of `size`: the array, perhaps moved. */
void *net_grow(void *array, uint32_t count, uint32_t *room, size_t size);
void flight_drop(struct flight *f);
void event_add(struct event e);
/* wire.c: links */
void wire_event(struct event *e);
/* The port that netdev `dev` is, or NULL. */
struct port *port_of(struct kernel *k, uint32_t dev);
struct flight *flight_new(const void *data, uint32_t length);
/* Writes down what becomes of a frame that leaves at `start` and arrives at `at`, if at all. */
void wire_record(struct port *port, struct pipe *p, const struct flight *f, uint64_t start,
		 uint64_t at, enum hk_verdict verdict);
/* Sends a frame, whose reference it takes, from a netdev. */
void wire_depart(struct port *port, struct flight *f, uint64_t now);
uint64_t wire_mix(uint64_t a, uint64_t b);
/* plugs.c */
uint32_t wire_command(struct hk_command *c);
/* jobs.c */
void job_event(struct event *e);
bool job_back(struct member *m, uint32_t slot);
uint32_t job_command(struct hk_command *c);

#endif
