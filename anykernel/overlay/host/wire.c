// SPDX-License-Identifier: GPL-2.0
/* Links: what happens to a frame between two netdevs. */
#include <errno.h>
#include <string.h>

#include "net.h"

/* Of each frame on Ethernet: preamble 8, FCS 4, gap 12 bytes; 64 at least. */
#define OVERHEAD 24
#define SHORTEST 60
/* How much a netdev's own ring holds; the rest waits in the kernel's qdisc. */
#define RING_NS 200000
#define RING_FRAMES 2
#define LONGEST 1538
/* IEEE 802.1D: a station that says nothing is forgotten. */
#define AGEING_NS 300000000000UL

const bool engine_heap;

struct port *port_of(struct kernel *k, uint32_t dev)
{
	struct member *m = engine_has(k) ? net->members[k->index] : NULL;

	return m && dev < LIB_MAX_NETDEVS ? m->ports[dev] : NULL;
}

bool engine_plugged(struct kernel *k, uint32_t dev)
{
	return port_of(k, dev);
}

static uint64_t wire_ns(uint64_t rate, uint64_t length)
{
	uint64_t bits = ((length < SHORTEST ? SHORTEST : length) + OVERHEAD) * 8;

	return rate ? (bits * 1000000000UL + rate - 1) / rate : 0;
}

static bool chance(struct pipe *p, uint64_t of)
{
	return of && next_random(&p->rng) >> 32 < of;
}

/* When what is sent now has left; the medium of a segment is everybody's. */
static uint64_t *busy(struct port *port, struct pipe *p)
{
	return port->link->kind == HK_SEGMENT ? &port->link->busy_until : &p->busy_until;
}

/* Backlog at which the kernel has to stop, in ns. */
static uint64_t ring_ns(const struct pipe *p)
{
	uint64_t frames = RING_FRAMES * wire_ns(p->with.rate, LONGEST);

	return frames > RING_NS ? frames : RING_NS;
}

uint32_t engine_room(struct kernel *k, uint32_t dev)
{
	struct port *port = port_of(k, dev);
	uint64_t now = k->state.now, full, until;

	if (!port->out.with.rate || port->out.with.limit)
		return 1;
	full = ring_ns(&port->out);
	until = *busy(port, &port->out);
	if (until < now + full)
		return 1;
	if (!port->wakes) {
		port->wakes = true;
		event_add((struct event){ .time = until - full / 2, .kind = EVENT_ROOM,
					  .port = port });
	}
	return 0;
}

/* A 64 x 64 bit product, folded: fast, and each bit of both counts. */
uint64_t wire_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)(a ^ 0x2d358dccaa6c78a5UL) *
				    (b ^ 0x8bb84b93962eacc9UL);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash(uint64_t h, const uint8_t *data, uint32_t length)
{
	uint64_t word[2];

	for (; length > 16; data += 16, length -= 16) {
		memcpy(word, data, 16);
		h = wire_mix(h ^ word[0], word[1]);
	}
	word[0] = word[1] = 0;
	memcpy(word, data, length);
	return wire_mix(h ^ word[0], word[1] ^ length);
}

void wire_record(struct port *port, struct pipe *p, const struct flight *f, uint64_t start,
		 uint64_t at, enum hk_verdict verdict)
{
	struct hk_header *h = header();
	struct ring ring = wire_ring();
	uint32_t kept = f->length < port->link->snap ? f->length : port->link->snap;

	p->stats.verdicts[verdict]++;
	ring_add(&ring, (struct hk_frame){ start, kept, f->length, port->number,
					   verdict | (p == &port->back ? HK_TOWARDS : 0) },
		 f->data);
	net->trace = wire_mix(net->trace ^ start, at);
	net->trace = hash(wire_mix(net->trace, (uint64_t)port->number << 8 | verdict), f->data,
			  f->length);
	h->trace = net->trace;
}

/* Puts the frame into the pipe; true: it gets in, and its first bit leaves at *start. */
static bool queue(struct port *port, struct pipe *p, uint64_t now, uint32_t length,
		  uint64_t *start)
{
	uint64_t *until = busy(port, p), limit = p->with.limit;

	*start = *until > now ? *until : now;
	if (limit) {
		while (p->leave_count && p->leaves[p->leave_head] <= now) {
			p->leave_head = (p->leave_head + 1) % p->room;
			p->leave_count--;
		}
		if (*start > now) {
			if (p->leave_count >= limit)
				return false;
			p->leaves[(p->leave_head + p->leave_count++) % p->room] = *start;
		}
	}
	*until = *start + wire_ns(p->with.rate, length);
	p->stats.frames++;
	p->stats.bytes += length;
	return true;
}

struct flight *flight_new(const void *data, uint32_t length)
{
	struct flight *f = net_alloc(sizeof(*f) + length);

	f->refs = 1;
	f->length = length;
	memcpy(f->data, data, length);
	return f;
}

/* Flips a bit; what others have, too, is theirs as it was. */
static struct flight *corrupt(struct pipe *p, struct flight *f)
{
	/* Behind the addresses: it is to reach somebody's checksum. */
	uint64_t bits = f->length > 14 ? (f->length - 14) * 8UL : 0;
	uint64_t bit = bits ? next_random(&p->rng) % bits : 0;

	if (f->refs > 1) {
		struct flight *own = flight_new(f->data, f->length);

		flight_drop(f);
		f = own;
	}
	if (bits)
		f->data[14 + bit / 8] ^= 1 << bit % 8;
	return f;
}

/* When a frame whose last bit leaves at `end` arrives. */
static uint64_t arrival(struct pipe *p, uint64_t end, bool late)
{
	uint64_t at = end + p->with.delay, jitter = p->with.jitter;

	if (jitter) {
		at += next_random(&p->rng) % (2 * jitter + 1);
		at = at > end + jitter ? at - jitter : end;
	}
	if (late)
		return at + p->with.late;
	if (at < p->last_arrival)
		at = p->last_arrival;
	p->last_arrival = at;
	return at;
}

static void fly(struct port *to, struct flight *f, uint64_t at, enum event_kind kind)
{
	f->refs++;
	event_add((struct event){ .time = at, .kind = kind, .flight = f, .port = to,
				  .generation = to->link->generation + to->generation });
}

/* Sends `f`, whose reference it takes, through pipe `p` of `port`: to `to`, or to all others. */
static void send(struct port *port, struct pipe *p, struct port *to, enum event_kind kind,
		 struct flight *f, uint64_t now)
{
	enum hk_verdict verdict = HK_PASS;
	uint64_t start = now, at = 0;

	if (!port->link->up) {
		verdict = HK_DOWN;
	} else if (!queue(port, p, now, f->length, &start)) {
		verdict = HK_FULL;
	} else if (chance(p, p->with.loss)) {
		verdict = HK_LOST;
	} else {
		if (chance(p, p->with.corrupt)) {
			verdict = HK_CORRUPT;
			f = corrupt(p, f);
		} else if (chance(p, p->with.reorder)) {
			verdict = HK_LATE;
		} else if (chance(p, p->with.duplicate)) {
			verdict = HK_TWICE;
		}
		at = arrival(p, start + wire_ns(p->with.rate, f->length), verdict == HK_LATE);
		for (int copies = 1 + (verdict == HK_TWICE); copies; copies--) {
			if (to)
				fly(to, f, at, kind);
			for (struct port *o = to ? NULL : port->link->ports; o; o = o->next)
				if (o != port && o->plugged)
					fly(o, f, at, kind);
		}
	}
	wire_record(port, p, f, start, at, verdict);
	flight_drop(f);
}

static struct port *other_end(struct port *port)
{
	for (struct port *o = port->link->ports; o; o = o->next)
		if (o != port && o->plugged)
			return o;
	return NULL;
}

void wire_depart(struct port *port, struct flight *f, uint64_t now)
{
	struct port *to = NULL;
	enum event_kind kind = EVENT_ARRIVES;

	switch (port->link->kind) {
	case HK_P2P:
		to = other_end(port);
		break;
	case HK_SWITCH:
		to = port;
		kind = EVENT_SWITCHED;
		break;
	}
	if (port->plugged && (to || port->link->kind == HK_SEGMENT)) {
		send(port, &port->out, to, kind, f, now);
		return;
	}
	wire_record(port, &port->out, f, now, 0, HK_DOWN);
	flight_drop(f);
}

void engine_transmit(struct kernel *k, uint32_t dev, const void *frame, uint32_t length)
{
	struct port *port = port_of(k, dev);
	struct flight *f = flight_new(frame, length);
	struct asked *a;

	if (!port->asks) {
		wire_depart(port, f, k->state.now);
		return;
	}
	a = net_alloc(sizeof(*a));
	*a = (struct asked){ net->numbers++, port, f, k->state.now, NULL };
	*net->asked_end = a;
	net->asked_end = &a->next;
	header()->asked++;
}

/* The switch. */

static uint64_t mac_at(const uint8_t *data)
{
	uint64_t mac = 0;

	memcpy(&mac, data, 6);
	return mac;
}

static struct station *station(struct link *link, uint64_t mac)
{
	uint32_t i = wire_mix(mac, 0) & link->station_mask;

	while (link->stations[i].mac && link->stations[i].mac != mac)
		i = (i + 1) & link->station_mask;
	return &link->stations[i];
}

static void learn(struct link *link, uint64_t mac, struct port *port)
{
	struct station *s, *old = link->stations;
	uint32_t room = link->station_mask + 1;

	if (mac & 1 || !mac)
		return;	/* a group is nobody's address */
	if (!old || link->station_count * 2 >= room) {
		link->station_mask = old ? 2 * room - 1 : 63;
		link->stations = net_alloc((link->station_mask + 1) * sizeof(*s));
		memset(link->stations, 0, (link->station_mask + 1) * sizeof(*s));
		for (uint32_t i = 0; old && i < room; i++)
			if (old[i].mac)
				*station(link, old[i].mac) = old[i];
		net_free(old, room * sizeof(*s));
	}
	s = station(link, mac);
	link->station_count += !s->mac;
	*s = (struct station){ mac, net->now, port };
}

static void switched(struct port *in, struct flight *f)
{
	struct link *link = in->link;
	struct port *to = NULL;
	uint64_t mac;

	if (f->length >= 14) {
		learn(link, mac_at(f->data + 6), in);
		mac = mac_at(f->data);
		if (!(mac & 1) && link->stations) {
			struct station *s = station(link, mac);

			if (s->mac && s->port->plugged && net->now - s->seen < AGEING_NS)
				to = s->port;
		}
		for (struct port *o = link->ports; o; o = o->next) {
			if (o == in || !o->plugged || (to && o != to))
				continue;
			f->refs++;
			send(o, &o->back, o, EVENT_ARRIVES, f, net->now);
		}
	}
	flight_drop(f);
}

void wire_event(struct event *e)
{
	struct port *port = e->port;

	if (e->kind == EVENT_ROOM) {
		port->wakes = false;
		if (port->plugged && !kernels[port->kernel].shared->crash)
			kernel_interrupt(&kernels[port->kernel], port->dev);
		return;
	}
	if (e->kind == EVENT_DEPARTS) {
		wire_depart(port, e->flight, e->time);
		return;
	}
	if (e->generation != port->link->generation + port->generation) {
		flight_drop(e->flight);	/* the cable was cut meanwhile */
	} else if (e->kind == EVENT_SWITCHED) {
		switched(port, e->flight);
	} else {
		if (!kernels[port->kernel].shared->crash)
			kernel_receive(&kernels[port->kernel], port->dev,
				       (const uint8_t *)&e->flight->length);
		flight_drop(e->flight);
	}
}
