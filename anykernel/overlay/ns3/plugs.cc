// SPDX-License-Identifier: GPL-2.0
/* Commands about channels, and the devices that are plugged into them. */
#include "wire.hh"

#include <cerrno>
#include <cstring>

#include "channels.hh"

#include "ns3/rng-seed-manager.h"

using namespace ns3;

namespace
{

std::vector<std::unique_ptr<Medium>> g_media; // by the link's number
std::vector<Ptr<Node>> g_nodes;               // by kernel

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
        c->ret = 0;
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

} // namespace

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
