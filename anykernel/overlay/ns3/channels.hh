/* SPDX-License-Identifier: GPL-2.0 */
/* ns-3's channels, from one line of text each. */
#ifndef NS3_CHANNELS_HH
#define NS3_CHANNELS_HH

#include <map>
#include <memory>
#include <string>

#include "device.hh"

/* "kind name=value name=value ...": the kind is under the name "". */
using Words = std::map<std::string, std::string>;
Words words(const std::string& line);

class Medium
{
  public:
    virtual ~Medium() = default;
    /* Gives `node` a device with the hardware address `mac`, and ours on it. */
    virtual ns3::Ptr<KernelDevice> Plug(ns3::Ptr<ns3::Node> node,
                                        const std::string& mac,
                                        KernelDevice::Arrived arrived) = 0;
};

/*
 * csma rate=DATARATE delay=TIME
 * wifi standard=a|b|g mode=MODE|ideal [control=MODE] [range=METRES]
 *
 * Values are ns-3's own ("100Mbps", "2us", "OfdmRate54Mbps").  Null: it is neither.  What
 * ns-3 itself doesn't like ends the process with its words.
 */
std::unique_ptr<Medium> make_medium(const Words& about);

/* Where a node is, and how it moves: position=x:y:z velocity=x:y:z, in m and m/s. */
void place(ns3::Ptr<ns3::Node> node, const Words& about);

#endif
