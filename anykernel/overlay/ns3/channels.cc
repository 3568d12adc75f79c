// SPDX-License-Identifier: GPL-2.0
#include "channels.hh"

#include <sstream>

#include "ns3/constant-velocity-mobility-model.h"
#include "ns3/csma-channel.h"
#include "ns3/csma-helper.h"
#include "ns3/csma-net-device.h"
#include "ns3/double.h"
#include "ns3/frame-exchange-manager.h"
#include "ns3/mac48-address.h"
#include "ns3/string.h"
#include "ns3/wifi-helper.h"
#include "ns3/wifi-mac-helper.h"
#include "ns3/wifi-mac-queue.h"
#include "ns3/wifi-mac.h"
#include "ns3/wifi-net-device.h"
#include "ns3/yans-wifi-channel.h"
#include "ns3/yans-wifi-helper.h"

using namespace ns3;

namespace
{

std::string
Get(const Words& about, const std::string& name, const std::string& otherwise)
{
    auto found = about.find(name);

    return found == about.end() ? otherwise : found->second;
}

Ptr<KernelDevice>
Cover(Ptr<Node> node,
      Ptr<NetDevice> under,
      bool hears,
      KernelDevice::Waiting waiting,
      KernelDevice::Arrived arrived)
{
    Ptr<KernelDevice> device = CreateObject<KernelDevice>();

    device->Plug(under, hears, waiting, arrived);
    node->AddDevice(device);
    return device;
}

uint32_t
CsmaWaiting(Ptr<Queue<Packet>> queue)
{
    return queue->GetNPackets();
}

class Csma : public Medium
{
  public:
    explicit Csma(const Words& about)
        : m_channel(CreateObject<CsmaChannel>())
    {
        m_channel->SetAttribute("DataRate", StringValue(Get(about, "rate", "100Mbps")));
        m_channel->SetAttribute("Delay", StringValue(Get(about, "delay", "1us")));
    }

    Ptr<KernelDevice> Plug(Ptr<Node> node,
                           const std::string& mac,
                           KernelDevice::Arrived arrived) override
    {
        Ptr<NetDevice> made = CsmaHelper().Install(node, m_channel).Get(0);
        Ptr<CsmaNetDevice> csma = DynamicCast<CsmaNetDevice>(made);

        made->SetAddress(Mac48Address(mac.c_str()));
        return Cover(node,
                     made,
                     true,
                     MakeBoundCallback(&CsmaWaiting, csma->GetQueue()),
                     arrived);
    }

  private:
    Ptr<CsmaChannel> m_channel;
};

uint32_t
WifiWaiting(Ptr<WifiMacQueue> queue)
{
    return queue->GetNPackets();
}

/* An ad-hoc cell: no access point, all stations are equal. */
class Wifi : public Medium
{
  public:
    explicit Wifi(const Words& about)
    {
        YansWifiChannelHelper channel;
        std::string mode = Get(about, "mode", "ideal");

        channel.SetPropagationDelay("ns3::ConstantSpeedPropagationDelayModel");
        if (about.count("range"))
        {
            channel.AddPropagationLoss("ns3::RangePropagationLossModel",
                                       "MaxRange",
                                       DoubleValue(std::stod(about.at("range"))));
        }
        else
        {
            channel.AddPropagationLoss("ns3::LogDistancePropagationLossModel");
        }
        m_phy.SetChannel(channel.Create());
        m_mac.SetType("ns3::AdhocWifiMac");
        m_wifi.SetStandard(Standard(Get(about, "standard", "a")));
        if (mode == "ideal")
        {
            m_wifi.SetRemoteStationManager("ns3::IdealWifiManager");
        }
        else
        {
            m_wifi.SetRemoteStationManager("ns3::ConstantRateWifiManager",
                                           "DataMode",
                                           StringValue(mode),
                                           "ControlMode",
                                           StringValue(Get(about, "control", mode)));
        }
    }

    Ptr<KernelDevice> Plug(Ptr<Node> node,
                           const std::string& mac,
                           KernelDevice::Arrived arrived) override
    {
        Ptr<NetDevice> made = m_wifi.Install(m_phy, m_mac, node).Get(0);
        Ptr<WifiNetDevice> wifi = DynamicCast<WifiNetDevice>(made);
        Mac48Address address(mac.c_str());

        made->SetAddress(address);
        /* It took the address over when it was installed: else nothing is acknowledged. */
        wifi->GetMac()->GetFrameExchangeManager()->SetAddress(address);
        return Cover(node,
                     made,
                     false,
                     MakeBoundCallback(&WifiWaiting, wifi->GetMac()->GetTxopQueue(AC_BE_NQOS)),
                     arrived);
    }

  private:
    static WifiStandard Standard(const std::string& letter)
    {
        return letter == "b"   ? WIFI_STANDARD_80211b
               : letter == "g" ? WIFI_STANDARD_80211g
                               : WIFI_STANDARD_80211a;
    }

    YansWifiPhyHelper m_phy;
    WifiMacHelper m_mac;
    WifiHelper m_wifi;
};

} // namespace

Words
words(const std::string& line)
{
    std::istringstream in(line);
    std::string word;
    Words found;

    in >> found[""];
    while (in >> word)
    {
        size_t at = word.find('=');
        found[word.substr(0, at)] = at == std::string::npos ? "" : word.substr(at + 1);
    }
    return found;
}

std::unique_ptr<Medium>
make_medium(const Words& about)
{
    if (about.at("") == "csma")
    {
        return std::make_unique<Csma>(about);
    }
    if (about.at("") == "wifi")
    {
        return std::make_unique<Wifi>(about);
    }
    return nullptr;
}

void
place(Ptr<Node> node, const Words& about)
{
    Ptr<ConstantVelocityMobilityModel> model = node->GetObject<ConstantVelocityMobilityModel>();

    if (!model)
    {
        model = CreateObject<ConstantVelocityMobilityModel>();
        node->AggregateObject(model);
    }
    if (about.count("position"))
    {
        std::istringstream text(about.at("position"));
        Vector3D at;

        text >> at;
        model->SetPosition(at);
    }
    if (about.count("velocity"))
    {
        std::istringstream text(about.at("velocity"));
        Vector3D speed;

        text >> speed;
        model->SetVelocity(speed);
    }
}
