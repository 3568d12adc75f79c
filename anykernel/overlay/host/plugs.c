// SPDX-License-Identifier: GPL-2.0
/* The client's commands about links: ports, cables, frames that wait for a verdict. */
#include <errno.h>
#include <string.h>

#include "net.h"

static uint32_t add_link(struct hk_command *c)
{
	struct link *link;

	if (c->args[0] < HK_P2P || c->args[0] > HK_SWITCH)
		return HK_BAD;
	net->links = net_grow(net->links, net->link_count, &net->link_room, sizeof(link));
	link = net_alloc(sizeof(*link));
	*link = (struct link){ .number = net->link_count, .kind = c->args[0], .up = true,
			       .snap = HK_WIRE_SNAP };
	net->links[net->link_count++] = link;
	c->ret = link->number;
	return HK_OK;
}

static uint32_t plug(struct hk_command *c)
{
	struct kernel *k = &kernels[c->kernel];
	struct link *link = c->args[0] < net->link_count ? net->links[c->args[0]] : NULL;
	struct port *port;

	if (!link || !engine_has(k) || c->slot >= LIB_MAX_NETDEVS || port_of(k, c->slot))
		return HK_BAD;
	net->ports = net_grow(net->ports, net->port_count, &net->port_room, sizeof(port));
	port = net_alloc(sizeof(*port));
	*port = (struct port){ .number = net->port_count, .kernel = c->kernel, .dev = c->slot,
			       .link = link, .plugged = true };
	port->out.rng = wire_mix(options.seed, 2 * port->number + 1);
	port->back.rng = wire_mix(options.seed, 2 * port->number + 2);
	net->ports[net->port_count++] = port;
	if (link->last)
		link->last->next = port;
	else
		link->ports = port;
	link->last = port;
	net->members[c->kernel]->ports[c->slot] = port;
	c->ret = port->number;
	return HK_OK;
}

static void unplug(struct port *port)
{
	port->plugged = false;
	port->generation++;
	if (port->link->kind == HK_P2P)
		port->link->generation++;
	net->members[port->kernel]->ports[port->dev] = NULL;
}

static void set_pipe(struct pipe *p)
{
	const struct hk_pipe *with = (const struct hk_pipe *)(shm + HK_IN_AT);

	if (with->limit > p->room) {
		uint64_t *larger = net_alloc(with->limit * sizeof(*larger));

		for (uint32_t i = 0; i < p->leave_count; i++)
			larger[i] = p->leaves[(p->leave_head + i) % p->room];
		net_free(p->leaves, p->room * sizeof(*larger));
		p->leaves = larger;
		p->room = with->limit;
		p->leave_head = 0;
	}
	p->with = *with;
}

static uint32_t list_asked(struct hk_command *c)
{
	uint8_t *out = shm + HK_OUT_AT, *end = out + HK_OUT_SIZE;

	c->ret = 0;
	for (struct asked *a = net->asked; a; a = a->next) {
		uint64_t size = sizeof(struct hk_asked) + ((a->flight->length + 7UL) & ~7UL);

		if (size > (uint64_t)(end - out))
			break;
		*(struct hk_asked *)out = (struct hk_asked){ a->id, a->port->number,
							     a->flight->length };
		memcpy(out + sizeof(struct hk_asked), a->flight->data, a->flight->length);
		out += size;
		c->ret++;
	}
	return HK_OK;
}

static uint32_t verdict(struct hk_command *c)
{
	struct asked *a = net->asked;
	uint32_t length = c->args[3];
	struct flight *f;
	uint64_t time;

	if (!a || a->id != c->args[0] || length > HK_IN_SIZE)
		return HK_BAD;
	f = a->flight;
	time = a->time > net->now ? a->time : net->now;
	net->asked = a->next;
	if (!net->asked)
		net->asked_end = &net->asked;
	header()->asked--;
	if (length) {
		flight_drop(f);
		f = flight_new(shm + HK_IN_AT, length);
	}
	if (c->args[1] == HK_DROP || !a->port->plugged) {
		wire_record(a->port, &a->port->out, f, time, 0, HK_DROP);
		flight_drop(f);
	} else if (c->args[2]) {
		/* The wire is free for others until then. */
		event_add((struct event){ .time = time + c->args[2], .kind = EVENT_DEPARTS,
					  .flight = f, .port = a->port });
	} else {
		if (c->args[1] == HK_TWICE) {
			f->refs++;
			wire_depart(a->port, f, time);
		}
		wire_depart(a->port, f, time);
	}
	net_free(a, sizeof(*a));
	return HK_OK;
}

static uint32_t port_command(struct hk_command *c, struct port *port)
{
	struct pipe *p = c->args[0] ? &port->back : &port->out;

	switch (c->op) {
	case HK_UNPLUG:
		if (port->plugged)
			unplug(port);
		return HK_OK;
	case HK_PIPE:
		set_pipe(p);
		/* Its queue may wait for room by other rules, or on the cable it had before. */
		if (port->plugged && !kernels[port->kernel].shared->crash)
			kernel_interrupt(&kernels[port->kernel], port->dev);
		return HK_OK;
	case HK_PIPE_STATS:
		memcpy(shm + HK_OUT_AT, &p->stats, sizeof(p->stats));
		return HK_OK;
	case HK_ASK:
		port->asks = c->args[0];
		return HK_OK;
	}
	c->ret = -ENOSYS;
	return HK_BAD;
}

static uint32_t link_command(struct hk_command *c, struct link *link)
{
	if (c->op == HK_LINK_SNAP) {
		link->snap = c->args[0];
		return HK_OK;
	}
	if (link->up && !c->args[0])
		link->generation++;
	link->up = c->args[0];
	return HK_OK;
}

uint32_t wire_command(struct hk_command *c)
{
	switch (c->op) {
	case HK_LINK:
		return add_link(c);
	case HK_PLUG:
		return plug(c);
	case HK_ASKED:
		return list_asked(c);
	case HK_VERDICT:
		return verdict(c);
	case HK_LINK_UP:
	case HK_LINK_SNAP:
		return c->slot < net->link_count ? link_command(c, net->links[c->slot]) : HK_BAD;
	}
	return c->slot < net->port_count ? port_command(c, net->ports[c->slot]) : HK_BAD;
}
