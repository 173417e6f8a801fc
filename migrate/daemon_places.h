// The target's side: places for bodies of other nodes, and the guests that run in them.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "migrate/admission.h"
#include "migrate/daemon_children.h"
#include "migrate/daemon_contents.h"
#include "migrate/daemon_data_port.h"
#include "migrate/daemon_questions.h"
#include "migrate/daemon_settings.h"
#include "migrate/local.pb.h"
#include "migrate/order.pb.h"
#include "migrate/peers.h"
#include "migrate/spawn.h"
#include "migrate/spawn_cgroup.h"
#include "migrate/tickets.h"

namespace drover {

/// The throwaway uids of guests: pairs of neighbours, given out in turn so that one that was
/// used comes back as late as possible.
class GuestUids {
 public:
  GuestUids(uid_t base, std::uint32_t count) : base_(base), pairs_(count / 2) {}
  /// The first uid of a pair that no guest has and no process runs as.
  Result<uid_t> take();
  void give_back(uid_t uid) { used_.erase(uid); }

 private:
  uid_t base_;
  std::uint32_t pairs_;
  std::uint32_t next_ = 0;
  std::set<uid_t> used_;
};

class GuestPlaces {
 public:
  GuestPlaces(NodeContext& context, Children& children, Dialler& dialler, Peers& peers)
      : context_(context),
        children_(children),
        dialler_(dialler),
        peers_(peers),
        machine_(own_machine()),
        contents_(context, children),
        uids_(context.settings.guest_uid_base, context.settings.guest_uid_count) {}

  /// For what guests report to their homes; to be set before the loop runs.
  void use_bus(Questions& questions) { questions_ = &questions; }

  /// Answers with Prepared or Refused. Asked again for the same job and epoch, it answers the
  /// same as long as the place is there.
  peer::PeerMessage prepare(const std::string& from, const peer::PrepareBody& request);
  void release(const std::string& from, const peer::ReleaseBody& request);
  /// A body channel has come in.
  void channel(OwnedFd socket, const Ticket& ticket);

  std::vector<local::Guest> list() const;
  std::size_t count() const { return places_.size(); }
  /// Ends all guests of a node that has been revoked.
  void end_guests_of(const std::string& node);
  /// The daemon ends: guests with a body live on, empty places go.
  void abandon();

  /// A place that nobody has come to by then is given up.
  static constexpr std::chrono::seconds kUnusedLife{30};

 private:
  using PlaceKey = std::tuple<std::string, std::string, std::uint64_t>;  // home, job, epoch
  struct Place {
    Place(GuestCgroup group, Spawned spawned)
        : cgroup(std::move(group)), guest(std::move(spawned)) {}

    peer::PrepareBody request;
    peer::Prepared answer;
    ChannelKey channel_key{};
    uid_t outer_uid = 0;
    GuestCgroup cgroup;
    Spawned guest;
    EventLoop::Hold watch;  // before the guest's socket goes
    EventLoop::Hold expiry;
    bool used = false;
    bool ending = false;
    bool dialling = false;
    order::GuestState last;
  };
  struct TicketOwner {
    PlaceKey place;
    bool from_guest = false;
  };

  Result<peer::Prepared> make_place(const std::string& from, const peer::PrepareBody& request);
  Result<std::unique_ptr<Place>> start_guest(const PlaceKey& key, uid_t uid);
  Status issue_tickets(const PlaceKey& key, Place& place);
  void guest_says(const PlaceKey& key);
  void handle_event(const PlaceKey& key, Place& place, const order::GuestEvent& event);
  void dial_for(const PlaceKey& key, const order::Dial& dial);
  void give_socket(const PlaceKey& key, bool dialled, const std::string& ticket,
                   Result<OwnedFd> socket);
  void give_order(Place& place, const order::GuestOrder& order, std::span<const int> fds);
  void end_guest(const PlaceKey& key, const std::string& why);
  void guest_gone(const PlaceKey& key, int wait_status);
  void clean_up(const std::shared_ptr<GuestCgroup>& group, uid_t uid, int tries);

  NodeContext& context_;
  Children& children_;
  Dialler& dialler_;
  Peers& peers_;
  Questions* questions_ = nullptr;
  peer::Machine machine_;
  ContentKeeper contents_;
  GuestUids uids_;
  std::map<PlaceKey, std::unique_ptr<Place>> places_;
  TicketBook<TicketOwner> tickets_;
  std::map<std::uint64_t, EventLoop::Hold> clean_ups_;
  std::uint64_t next_clean_up_ = 0;
};

}  // namespace drover
