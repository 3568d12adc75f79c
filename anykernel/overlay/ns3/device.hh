/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An ns-3 NetDevice whose other side is a netdev of a library kernel.
 *
 * It lies on an ns-3 device of a channel (CSMA, Wi-Fi), has the kernel's hardware
 * address there, and passes frames both ways: what ns-3's tap bridge is for virtual
 * machines.
 */
#ifndef NS3_DEVICE_HH
#define NS3_DEVICE_HH

#include <cstdint>
#include <vector>

#include "ns3/callback.h"
#include "ns3/net-device.h"
#include "ns3/node.h"
#include "ns3/packet.h"

class KernelDevice : public ns3::NetDevice
{
  public:
    /* Takes an Ethernet frame without checksum, runs inside one of ns3's events. */
    using Arrived = ns3::Callback<void, std::vector<uint8_t>>;
    /* How many frames wait to be sent. */
    using Waiting = ns3::Callback<uint32_t>;

    static ns3::TypeId GetTypeId();

    /* `under` is on the node already; `hears`: frames for other stations arrive, too. */
    void Plug(ns3::Ptr<ns3::NetDevice> under, bool hears, Waiting waiting, Arrived arrived);
    /* The kernel sends an Ethernet frame.  False: it is none that ns-3 can carry. */
    bool Transmit(const uint8_t* frame, uint32_t length);
    uint32_t GetWaiting() const;
    /* Neither sends nor receives while down. */
    void SetUp(bool up);

    /* Of NetDevice: all that a channel's device knows is asked of it. */
    void SetIfIndex(const uint32_t index) override;
    uint32_t GetIfIndex() const override;
    ns3::Ptr<ns3::Channel> GetChannel() const override;
    void SetAddress(ns3::Address address) override;
    ns3::Address GetAddress() const override;
    bool SetMtu(const uint16_t mtu) override;
    uint16_t GetMtu() const override;
    bool IsLinkUp() const override;
    void AddLinkChangeCallback(ns3::Callback<void> callback) override;
    bool IsBroadcast() const override;
    ns3::Address GetBroadcast() const override;
    bool IsMulticast() const override;
    ns3::Address GetMulticast(ns3::Ipv4Address group) const override;
    ns3::Address GetMulticast(ns3::Ipv6Address group) const override;
    bool IsBridge() const override;
    bool IsPointToPoint() const override;
    bool Send(ns3::Ptr<ns3::Packet> packet,
              const ns3::Address& to,
              uint16_t protocol) override;
    bool SendFrom(ns3::Ptr<ns3::Packet> packet,
                  const ns3::Address& from,
                  const ns3::Address& to,
                  uint16_t protocol) override;
    ns3::Ptr<ns3::Node> GetNode() const override;
    void SetNode(ns3::Ptr<ns3::Node> node) override;
    bool NeedsArp() const override;
    void SetReceiveCallback(ReceiveCallback callback) override;
    void SetPromiscReceiveCallback(PromiscReceiveCallback callback) override;
    bool SupportsSendFrom() const override;

  protected:
    void DoDispose() override;

  private:
    bool Receive(ns3::Ptr<ns3::NetDevice> device,
                 ns3::Ptr<const ns3::Packet> packet,
                 uint16_t protocol,
                 const ns3::Address& from,
                 const ns3::Address& to,
                 PacketType type);

    ns3::Ptr<ns3::Node> m_node;
    ns3::Ptr<ns3::NetDevice> m_under;
    Waiting m_waiting;
    Arrived m_arrived;
    uint32_t m_index{0};
    bool m_hears{false};
    bool m_up{true};
};

#endif
