// Questions and answers on the control bus.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/control_bus.h"
#include "common/protocol.h"
#include "migrate/daemon_events.h"
#include "migrate/peer.pb.h"

namespace drover {

/// The message in a packet from the bus, if it is well-formed: every field that has a fixed form
/// (job ids, tickets, link names, counts) is checked here. Of a message of versions that we, who
/// speak `speaks`, do not, only what is the same in all of them is left: who speaks what, its
/// number and a refusal.
Result<peer::PeerMessage> parse_peer_message(ByteView data, ProtocolRange speaks = {});

/// The versions that the sender of a message speaks.
ProtocolRange spoken_by(const peer::PeerMessage& message);

class Questions {
 public:
  using Answered = std::function<void(Result<peer::PeerMessage>)>;
  /// What another node asks or says by itself; an answer is sent if one is returned.
  using Asked = std::function<std::optional<peer::PeerMessage>(const std::string& from,
                                                               const peer::PeerMessage&)>;

  /// `speaks`: the versions that we say we speak.
  static Result<std::unique_ptr<Questions>> create(EventLoop& loop, ControlBus& bus,
                                                   ProtocolRange speaks, Asked asked);

  /// Asks `node`. `answered` gets its answer, its refusal as an error ("NODE" and its words), or an
  /// error if none came in time; in a later turn of the loop. It is asked a second time if no
  /// answer comes: what crosses the end of a connection is lost. So it has to be one that may be.
  void ask(const std::string& node, peer::PeerMessage question, Answered answered);
  /// Says something that needs no answer. What cannot be sent is logged.
  void tell(const std::string& node, peer::PeerMessage message);

  /// What other nodes, by name, have last said that they speak.
  const std::map<std::string, ProtocolRange>& spoken() const { return spoken_; }

  static constexpr std::chrono::seconds kPatience{5};
  /// When it is asked again. By then it is known on both sides that a node was rebooted, if it was.
  static constexpr std::chrono::seconds kAskAgain{2};

 private:
  struct Open {
    std::string node;
    peer::PeerMessage question;
    Answered answered;
    EventLoop::Hold timer;
  };

  Questions(EventLoop& loop, ControlBus& bus, ProtocolRange speaks, Asked asked)
      : loop_(loop), bus_(bus), speaks_(speaks), asked_(std::move(asked)) {}
  Status send(const std::string& node, peer::PeerMessage& message);
  void drain();
  void take(const BusMessage& message);
  void note_versions(const std::string& node, ProtocolRange spoken);
  peer::PeerMessage no_common_version(const std::string& node);
  void ask_again(std::uint64_t number);
  void close(std::uint64_t number, Result<peer::PeerMessage> outcome);

  EventLoop& loop_;
  ControlBus& bus_;
  ProtocolRange speaks_;
  Asked asked_;
  EventLoop::Hold watch_;
  std::map<std::uint64_t, Open> open_;
  std::map<std::string, ProtocolRange> spoken_;  // by node
  std::uint64_t next_ = 1;
};

}  // namespace drover
