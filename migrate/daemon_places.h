// The target's side: places for bodies of other nodes, and the guests that run in them.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "migrate/admission.h"
#include "migrate/daemon_children.h"
#include "migrate/daemon_contents.h"
#include "migrate/daemon_data_port.h"
#include "migrate/daemon_programs.h"
#include "migrate/daemon_questions.h"
#include "migrate/daemon_records.h"
#include "migrate/daemon_settings.h"
#include "migrate/local.pb.h"
#include "migrate/order.pb.h"
#include "migrate/peers.h"
#include "migrate/record.pb.h"
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
  /// A guest of the life before has it.
  void mark_used(uid_t uid);

 private:
  uid_t base_;
  std::uint32_t pairs_;
  std::uint32_t next_ = 0;
  std::set<uid_t> used_;
};

class GuestPlaces {
 public:
  GuestPlaces(NodeContext& context, Children& children, Dialler& dialler, Peers& peers,
              const RecordStore& records)
      : context_(context),
        children_(children),
        dialler_(dialler),
        peers_(peers),
        records_(records),
        machine_(own_machine()),
        contents_(context, children),
        uids_(context.settings.guest_uid_base, context.settings.guest_uid_count) {}

  /// For what guests report to their homes; to be set before the loop runs.
  void use_bus(Questions& questions) { questions_ = &questions; }

  /// Answers with Prepared or Refused. Asked again for the same job and epoch, it answers the
  /// same as long as the place is there.
  /// `spoken`: the versions of the protocol that the home node says it speaks.
  peer::PeerMessage prepare(const std::string& from, ProtocolRange spoken,
                            const peer::PrepareBody& request);
  void release(const std::string& from, const peer::ReleaseBody& request);
  /// A body channel has come in.
  void channel(OwnedFd socket, const Ticket& ticket);

  std::vector<local::Guest> list() const;
  std::size_t count() const { return places_.size(); }
  /// Ends all guests of a node that has been revoked.
  void end_guests_of(const std::string& node);
  /// Finds the guests of the life before; what has ended meanwhile is cleared away. Before any
  /// place is made.
  void resume();
  /// Whose guests there are.
  std::set<std::string> homes() const;
  /// The daemon ends: guests with a body live on, empty places go.
  void abandon();

  /// A place that nobody has come to by then is given up.
  static constexpr std::chrono::seconds kUnusedLife{30};
  /// A guest that was found is asked for our socket so long: it may not have read its order yet.
  static constexpr std::chrono::seconds kReclaimPatience{10};

 private:
  using PlaceKey = std::tuple<std::string, std::string, std::uint64_t>;  // home, job, epoch
  struct Place {
    Place(GuestCgroup group, uid_t uid) : outer_uid(uid), cgroup(std::move(group)) {}

    peer::PrepareBody request;
    peer::Prepared answer;
    ChannelKey channel_key{};
    uid_t outer_uid = 0;
    GuestCgroup cgroup;
    std::optional<Program> program;  // the guest; none only until it has been started
    EventLoop::Hold watch;           // before the guest's socket and pidfd go
    EventLoop::Hold end_watch;       // of one that is no child of ours
    EventLoop::Hold expiry;
    bool used = false;
    bool ending = false;
    std::string dialling;  // the ticket with which it is being connected
    order::GuestState last;
  };
  struct TicketOwner {
    PlaceKey place;
    bool from_guest = false;
  };

  Result<peer::Prepared> make_place(const std::string& from, ProtocolRange spoken,
                                    const peer::PrepareBody& request);
  Result<std::unique_ptr<Place>> start_guest(const PlaceKey& key, const peer::PrepareBody& request,
                                             uid_t uid);
  Result<std::uint32_t> protocol_with(ProtocolRange home, const peer::PrepareBody& request) const;
  Status listen(const PlaceKey& key, Place& place);
  Status issue_tickets(const PlaceKey& key, Place& place);
  void guest_says(const PlaceKey& key);
  void handle_event(const PlaceKey& key, Place& place, const order::GuestEvent& event);
  void dial_for(const PlaceKey& key, const order::Dial& dial);
  void give_socket(const PlaceKey& key, bool dialled, const std::string& ticket,
                   Result<OwnedFd> socket);
  void give_order(Place& place, const order::GuestOrder& order, std::span<const int> fds);
  void end_guest(const PlaceKey& key, const std::string& why);
  void guest_gone(const PlaceKey& key, std::optional<int> wait_status);
  void clean_up(const std::shared_ptr<GuestCgroup>& group, uid_t uid, int tries);

  // What is known after a restart.
  void write_down(const PlaceKey& key, const Place& place) const;
  void forget(uid_t outer_uid);
  void resume_guest(const record::Guest& guest);
  void reclaim(const PlaceKey& key, EventLoop::Clock::time_point deadline);

  NodeContext& context_;
  Children& children_;
  Dialler& dialler_;
  Peers& peers_;
  const RecordStore& records_;
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
