// SPDX-License-Identifier: GPL-2.0
/*
 * The engine on ns-3: in place of engine.c and wire.c, between the kernels and ns-3's
 * channels.
 *
 * ns-3's scheduler is the clock.  The moment at which kernels (or their jobs, or frames
 * that arrived) are due next is one of its events; what is due then runs when that event
 * is over.  Nothing of this can be saved: ns-3's state is out of reach.
 */
#include "host.hh"

#include <cerrno>
#include <cstring>
#include <exception>
#include <malloc.h>
#include <unistd.h>

#include "channels.hh"
#include "clock.hh"

#include "ns3/global-value.h"
#include "ns3/nstime.h"
#include "ns3/rng-seed-manager.h"
#include "ns3/simulator.h"

using namespace ns3;

namespace
{

constexpr uint64_t BEGIN = 1000000000; // as net.c's
constexpr uint32_t RING = 16;          // frames that a device takes before the kernel waits
constexpr uint32_t WAKES = RING / 2;
constexpr size_t HEAP_STEP = 64 << 20;

/* What a port is, on our side. */
struct Side
{
    Ptr<KernelDevice> device;
    uint32_t leaving; // frames sent that ns-3 hasn't got yet
    hk_pipe_stats out, in;
};

std::vector<std::unique_ptr<Medium>> g_media; // by the link's number
std::vector<Side> g_sides;                    // by the port's
std::vector<Ptr<Node>> g_nodes;               // by kernel
uint32_t g_stopped;                           // ports whose kernels wait for room
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
        struct ring ring = {shm + HK_WIRE_AT, HK_WIRE_SIZE, &h->wire_head, &h->wire_tail};
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

/* Inside an event of ns-3. */
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

/* Commands. */

std::string
Text(const struct hk_command* c)
{
    auto at = reinterpret_cast<const char*>(shm + HK_IN_AT);

    return c->args[1] <= HK_IN_SIZE ? std::string(at, c->args[1]) : std::string();
}

/* A channel, or "random seed=N run=N" before the first one. */
uint32_t
AddLink(struct hk_command* c)
{
    Words about = words(Text(c));
    std::unique_ptr<Medium> medium;

    if (c->args[0] != HK_CHANNEL)
    {
        return HK_BAD;
    }
    if (about[""] == "random")
    {
        RngSeedManager::SetSeed(std::stoul(about["seed"]));
        RngSeedManager::SetRun(std::stoul(about["run"]));
        return HK_OK;
    }
    medium = make_medium(about);
    if (!medium)
    {
        return HK_BAD;
    }
    net->links = static_cast<struct link**>(
        net_grow(net->links, net->link_count, &net->link_room, sizeof(struct link*)));
    auto link = static_cast<struct link*>(net_alloc(sizeof(struct link)));
    *link = {};
    link->number = net->link_count;
    link->kind = HK_CHANNEL;
    link->up = true;
    link->snap = 64;
    net->links[net->link_count++] = link;
    g_media.push_back(std::move(medium));
    c->ret = link->number;
    return HK_OK;
}

Ptr<Node>
NodeOf(uint32_t kernel)
{
    if (g_nodes.size() <= kernel)
    {
        g_nodes.resize(kernel + 1);
    }
    if (!g_nodes[kernel])
    {
        g_nodes[kernel] = CreateObject<Node>();
    }
    return g_nodes[kernel];
}

/* Text: "plug mac=xx:... [mtu=N] [position=...] [velocity=...]". */
uint32_t
Plug(struct hk_command* c)
{
    struct kernel* k = &kernels[c->kernel];
    Words about = words(Text(c));
    struct port* port;

    if (c->args[0] >= net->link_count || !engine_has(k) || c->slot >= LIB_MAX_NETDEVS ||
        PortOf(k, c->slot) || !about.count("mac"))
    {
        return HK_BAD;
    }
    net->ports = static_cast<struct port**>(
        net_grow(net->ports, net->port_count, &net->port_room, sizeof(port)));
    port = static_cast<struct port*>(net_alloc(sizeof(*port)));
    *port = {};
    port->number = net->port_count;
    port->kernel = c->kernel;
    port->dev = c->slot;
    port->link = net->links[c->args[0]];
    port->plugged = true;
    Ptr<Node> node = NodeOf(c->kernel);
    place(node, about);
    auto device = g_media[port->link->number]->Plug(node,
                                                    about["mac"],
                                                    MakeBoundCallback(&Arrived, port));
    if (about.count("mtu") && !device->SetMtu(std::stoul(about["mtu"])))
    {
        c->ret = -EMSGSIZE;
        return HK_BAD;
    }
    g_sides.push_back(Side{device, 0, {}, {}});
    net->ports[net->port_count++] = port;
    net->members[c->kernel]->ports[c->slot] = port;
    c->ret = port->number;
    return HK_OK;
}

uint32_t
PortCommand(struct hk_command* c, struct port* port)
{
    Side& side = g_sides[port->number];

    switch (c->op) {
    case HK_UNPLUG:
        if (port->plugged)
        {
            port->plugged = false;
            port->generation++;
            net->members[port->kernel]->ports[port->dev] = nullptr;
            side.device->SetUp(false);
        }
        return HK_OK;
    case HK_PIPE: // where its node is: text as in Plug()
        place(NodeOf(port->kernel), words(Text(c)));
        return HK_OK;
    case HK_PIPE_STATS:
        memcpy(shm + HK_OUT_AT, c->args[0] ? &side.in : &side.out, sizeof(side.out));
        return HK_OK;
    }
    c->ret = -ENOSYS;
    return HK_BAD;
}

uint32_t
LinkCommand(struct hk_command* c, struct link* link)
{
    if (c->op == HK_LINK_SNAP)
    {
        link->snap = c->args[0];
        return HK_OK;
    }
    link->up = c->args[0];
    for (uint32_t i = 0; i < net->port_count; i++)
    {
        if (net->ports[i]->link == link && net->ports[i]->plugged)
        {
            g_sides[i].device->SetUp(link->up);
        }
    }
    return HK_OK;
}

void
GiveUp()
{
    static const char said[] = "ns-3 gave up: see what it said above\n";

    (void)!write(STDERR_FILENO, said, sizeof(said) - 1);
    _exit(6);
}

} // namespace

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

uint32_t
wire_command(struct hk_command* c)
{
    switch (c->op) {
    case HK_LINK:
        return AddLink(c);
    case HK_PLUG:
        return Plug(c);
    case HK_LINK_UP:
    case HK_LINK_SNAP:
        return c->slot < net->link_count ? LinkCommand(c, net->links[c->slot]) : uint32_t{HK_BAD};
    case HK_UNPLUG:
    case HK_PIPE:
    case HK_PIPE_STATS:
        return c->slot < net->port_count ? PortCommand(c, net->ports[c->slot]) : uint32_t{HK_BAD};
    }
    c->ret = -ENOSYS;
    return HK_BAD;
}
