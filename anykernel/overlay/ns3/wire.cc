// SPDX-License-Identifier: GPL-2.0
/*
 * The engine on ns-3: in place of engine.c, wire.c and plugs.c, between the kernels and ns-3's
 * channels.
 *
 * ns-3's scheduler is the clock.  The moment at which kernels (or their jobs, or frames
 * that arrived) are due next is one of its events; what is due then runs when that event
 * is over.  Nothing of this can be saved: ns-3's state is out of reach.
 */
#include "wire.hh"

#include <cstring>
#include <exception>
#include <malloc.h>
#include <unistd.h>

#include "clock.hh"

#include "ns3/nstime.h"
#include "ns3/simulator.h"

using namespace ns3;

std::vector<Side> g_sides;

namespace
{

constexpr uint64_t BEGIN = BOOTED_AT;
constexpr uint32_t RING = 16;          // frames that a device takes before the kernel waits
constexpr uint32_t WAKES = RING / 2;
constexpr size_t HEAP_STEP = 64 << 20;

uint32_t g_stopped; // ports whose kernels wait for room
EventId g_turn;
uint64_t g_turn_at;

void
Turn()
{
    g_turn_at = LIB_NEVER;
}

/* When one of ours is due. */
uint64_t
Due()
{
    uint64_t due = net->queued ? net->queue[0]->deadline : LIB_NEVER;

    return net->event_count && net->events[0].time < due ? net->events[0].time : due;
}

void
Arrange(uint64_t due)
{
    if (due >= g_turn_at)
    {
        return; // an early turn does no harm
    }
    Simulator::Remove(g_turn);
    g_turn = Simulator::Schedule(NanoSeconds(due - clock_ns()), &Turn);
    g_turn_at = due;
}

uint64_t
Mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product =
        (unsigned __int128)(a ^ 0x2d358dccaa6c78a5UL) * (b ^ 0x8bb84b93962eacc9UL);

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Sent frames go to the wire ring, all to the hash. */
void
Record(const struct port* port, const struct flight* f, bool sent, hk_verdict verdict)
{
    hk_header* h = header();
    uint64_t hash = Mix(net->trace ^ net->now, (uint64_t)port->number << 8 | sent << 7 | verdict);
    hk_pipe_stats& stats = sent ? g_sides[port->number].out : g_sides[port->number].in;

    for (uint32_t i = 0; i < f->length; i += 8)
    {
        uint64_t word = 0;
        memcpy(&word, f->data + i, f->length - i < 8 ? f->length - i : 8);
        hash = Mix(hash, word);
    }
    h->trace = net->trace = Mix(hash, f->length);
    stats.verdicts[verdict]++;
    stats.frames++;
    stats.bytes += f->length;
    if (sent)
    {
        struct ring ring = wire_ring();
        uint32_t kept = f->length < port->link->snap ? f->length : port->link->snap;

        ring_add(&ring, hk_frame{net->now, kept, f->length, port->number, verdict}, f->data);
    }
}

struct flight*
MakeFlight(const void* data, uint32_t length)
{
    auto f = static_cast<struct flight*>(net_alloc(sizeof(struct flight) + length));

    f->refs = 1;
    f->length = length;
    memcpy(f->data, data, length);
    return f;
}

void
AddEvent(uint64_t time, event_kind kind, struct flight* f, struct port* port)
{
    struct event e = {};

    e.time = time;
    e.kind = kind;
    e.generation = port->generation;
    e.flight = f;
    e.port = port;
    event_add(e);
}

void
Leave(struct port* port, struct flight* f)
{
    Side& side = g_sides[port->number];
    bool up = port->link->up && port->plugged;

    side.leaving--;
    bool sent = up && side.device->Transmit(f->data, f->length);
    Record(port, f, true, !up ? HK_DOWN : sent ? HK_PASS : HK_DROP);
}

/* After an event of ns-3: kernels that waited may send again. */
void
WakeThose()
{
    for (uint32_t i = 0; g_stopped && i < net->port_count; i++)
    {
        struct port* port = net->ports[i];

        if (port->wakes && g_sides[i].device->GetWaiting() + g_sides[i].leaving <= WAKES)
        {
            port->wakes = false;
            g_stopped--;
            AddEvent(net->now, EVENT_ROOM, nullptr, port);
        }
    }
}

void
GiveUp()
{
    static const char said[] = "ns-3 gave up: see what it said above\n";

    (void)!write(STDERR_FILENO, said, sizeof(said) - 1);
    end_host(6);
}

} // namespace

void
Arrived(struct port* port, std::vector<uint8_t> frame)
{
    net->now = clock_ns();
    if (port->plugged)
    {
        AddEvent(net->now, EVENT_ARRIVES, MakeFlight(frame.data(), frame.size()), port);
    }
}

struct port*
PortOf(const struct kernel* k, uint32_t dev)
{
    struct member* m = engine_has(k) ? net->members[k->index] : nullptr;

    return m && dev < LIB_MAX_NETDEVS ? m->ports[dev] : nullptr;
}

extern const bool engine_heap = true;

void
engine_prepare(void)
{
    /* The sandbox lets the heap grow, and by nothing but brk(). */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, HEAP_STEP);
    std::set_terminate(GiveUp);
    net_prepare();
    g_turn_at = LIB_NEVER;
    clock_prepare(BEGIN);
}

bool
engine_step(uint64_t limit)
{
    uint64_t due = Due();
    uint64_t now = clock_ns();

    if (due <= now && due <= limit)
    {
        return net_step(now);
    }
    if (due != LIB_NEVER && due > now)
    {
        Arrange(due);
    }
    if (!clock_step(limit))
    {
        if (limit != LIB_NEVER)
        {
            clock_jump(limit);
        }
        if (clock_ns() > net->now)
        {
            net->now = clock_ns();
        }
        return false;
    }
    net->now = clock_ns();
    header()->events++;
    WakeThose();
    return true;
}

bool
engine_plugged(struct kernel* k, uint32_t dev)
{
    return PortOf(k, dev);
}

uint32_t
engine_room(struct kernel* k, uint32_t dev)
{
    struct port* port = PortOf(k, dev);
    const Side& side = g_sides[port->number];

    if (side.leaving + side.device->GetWaiting() < RING)
    {
        return 1;
    }
    g_stopped += !port->wakes;
    port->wakes = true;
    return 0;
}

void
engine_transmit(struct kernel* k, uint32_t dev, const void* frame, uint32_t length)
{
    struct port* port = PortOf(k, dev);

    g_sides[port->number].leaving++;
    AddEvent(k->state.now, EVENT_SWITCHED, MakeFlight(frame, length), port);
}

void
wire_event(struct event* e)
{
    struct port* port = e->port;
    struct kernel* k = &kernels[port->kernel];

    if (e->kind == EVENT_SWITCHED)
    {
        Leave(port, e->flight);
        flight_drop(e->flight);
    }
    else if (e->kind == EVENT_ROOM)
    {
        if (port->plugged && !k->shared->crash)
        {
            kernel_interrupt(k, port->dev);
        }
    }
    else
    {
        if (port->plugged && !k->shared->crash)
        {
            Record(port, e->flight, false, HK_PASS);
            kernel_receive(k, port->dev, reinterpret_cast<const uint8_t*>(&e->flight->length));
        }
        flight_drop(e->flight);
    }
}
