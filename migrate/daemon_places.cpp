#include "migrate/daemon_places.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <fstream>
#include <iterator>

#include "common/fault.h"
#include "common/log.h"
#include "migrate/jobs_process.h"
#include "migrate/messages.h"

namespace drover {
namespace {

constexpr std::size_t kLongestState = 16;
constexpr std::chrono::milliseconds kNoWait{0};
constexpr std::chrono::seconds kTermPatience{3};
constexpr std::chrono::milliseconds kCleanUpPause{200};
constexpr int kCleanUpTries = 50;
/// Between tries after those.
constexpr std::chrono::seconds kLateCleanUpPause{10};

peer::PeerMessage refused(const Error& why) {
  peer::PeerMessage message;
  const bool link_lost = why.code == ENOLINK;
  message.mutable_refused()->set_why(link_lost ? why.what : why.message());
  message.mutable_refused()->set_link_lost(link_lost);
  return message;
}

std::string describe(const std::string& home, const std::string& job, std::uint64_t epoch) {
  return fmt::format("guest of {} (job {}, epoch {})", home, job.substr(0, 8), epoch);
}

template <class Key>
std::string describe(const Key& key) {
  return describe(std::get<0>(key), std::get<1>(key), std::get<2>(key));
}

/// The effective uids of all processes: those that their directories in /proc belong to.
std::set<uid_t> uids_in_use() {
  std::set<uid_t> uids;
  const auto pids = list_processes();
  if (!pids) return uids;
  for (const pid_t pid : *pids) {
    struct stat status {};
    if (::stat(fmt::format("/proc/{}", pid).c_str(), &status) == 0) uids.insert(status.st_uid);
  }
  return uids;
}

/// A word that a guest may describe itself with.
bool is_state(const std::string& word) {
  return !word.empty() && word.size() <= kLongestState &&
         std::ranges::all_of(word, [](char c) { return c >= 'a' && c <= 'z'; });
}

std::vector<pid_t> children_of(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{0}/task/{0}/children", pid));
  return {std::istream_iterator<pid_t>(file), {}};
}

/// What the bodies of a guest hold in memory: its own uid's processes below it (its sandbox's
/// init has another).
std::uint64_t bodies_rss(pid_t guest, uid_t uid) {
  std::uint64_t sum = 0;
  for (const pid_t init : children_of(guest))
    for (const pid_t body : children_of(init))
      if (const auto process = read_process(body); process && process->uids[0] == uid)
        sum += process->rss_bytes;
  return sum;
}

}  // namespace

Result<uid_t> GuestUids::take() {
  const std::set<uid_t> running = uids_in_use();
  for (std::uint32_t tried = 0; tried < pairs_; ++tried) {
    const uid_t uid = base_ + 2 * (next_++ % pairs_);
    if (used_.count(uid) || running.count(uid) || running.count(uid + 1)) continue;
    used_.insert(uid);
    return uid;
  }
  return refusal("has no throwaway uid left (guest-uid-count)");
}

void GuestUids::mark_used(uid_t uid) {
  used_.insert(uid);
  // The next to be given out comes after those that were last.
  if (uid >= base_ && (uid - base_) / 2 < pairs_) next_ = std::max(next_, (uid - base_) / 2 + 1);
}

peer::PeerMessage GuestPlaces::prepare(const std::string& from, ProtocolRange spoken,
                                       const peer::PrepareBody& request) {
  const auto answer = make_place(from, spoken, request);
  if (!answer) {
    log_info("refused {}: {}", describe(from, request.job(), request.epoch()),
             answer.error().message());
    return refused(answer.error());
  }
  peer::PeerMessage message;
  *message.mutable_prepared() = *answer;
  message.mutable_prepared()->set_realtime_ns(wall_clock().count());
  return message;
}

Result<peer::Prepared> GuestPlaces::make_place(const std::string& from, ProtocolRange spoken,
                                               const peer::PrepareBody& request) {
  const PlaceKey key{from, request.job(), request.epoch()};
  if (const auto found = places_.find(key); found != places_.end()) {
    if (found->second->used || found->second->ending) return refusal("has served this epoch");
    return found->second->answer;
  }
  const auto first = places_.lower_bound({from, request.job(), 0});
  for (auto it = first; it != places_.end() && std::get<1>(it->first) == request.job() &&
                        std::get<0>(it->first) == from;) {
    const PlaceKey other = (it++)->first;
    if (std::get<2>(other) > request.epoch()) return refusal("has seen a later epoch of this job");
    if (!places_.at(other)->used) end_guest(other, "a later epoch has come");
  }
  DROVER_CHECK(fault_point("migrated.target.asked"));
  const Member* home = context_.membership->active(from);
  if (home == nullptr) return refusal("does not know " + from);
  DROVER_TRY(const std::uint32_t protocol, protocol_with(spoken, request));
  DROVER_TRY(HostState state, read_host_state());
  state.guests = places_.size();
  const DaemonSettings& s = context_.settings;
  DROVER_CHECK(admit_body(request, *home, {s.guest_zones, s.block, s.max_guests}, state, machine_));

  DROVER_TRY(const uid_t uid, uids_.take());
  auto place = start_guest(key, request, uid);
  if (!place) {
    forget(uid);
    return place.error();
  }
  Place& made = *places_.emplace(key, *std::move(place)).first->second;
  made.answer.set_protocol(protocol);
  if (const Status issued = issue_tickets(key, made); !issued) {
    end_guest(key, issued.error().message());
    return issued.error();
  }
  if (const Status passed = fault_point("migrated.target.placed"); !passed) {
    end_guest(key, passed.error().message());
    return passed.error();
  }
  log_info("{}: place prepared, uid {}, pid {}, protocol {}", describe(key), uid,
           made.program->pid(), protocol);
  return made.answer;
}

/// The newest version that both ends of the body's channel speak.
Result<std::uint32_t> GuestPlaces::protocol_with(ProtocolRange home,
                                                 const peer::PrepareBody& request) const {
  const bool differs = request.newest_protocol() != 0;
  if (differs) home = {request.oldest_protocol(), request.newest_protocol()};
  const ProtocolRange own = context_.settings.speaks;
  if (const auto both = common_protocols(home, own)) return both->newest;
  return refusal(
      fmt::format("speaks {}, and the deputy of this job {}", in_words(own), in_words(home)));
}

Result<std::unique_ptr<GuestPlaces::Place>> GuestPlaces::start_guest(
    const PlaceKey& key, const peer::PrepareBody& request, uid_t uid) {
  const auto& [home, job, epoch] = key;
  GuestCgroup group = GuestCgroup::make(fmt::format("{}-{}-{}", home, job, epoch));
  if (!group.shortfall().empty())
    log_warn("{}: runs without a CPU weight: {}", describe(key), group.shortfall());
  auto place = std::make_unique<Place>(std::move(group), uid);
  place->request = request;
  place->last.set_state("prepared");
  write_down(key, *place);
  auto started = [&]() -> Result<Program> {
    DROVER_TRY(Spawned spawned,
               spawn_guest(context_.settings.spawn, uid, place->cgroup.join_files()));
    return Program::started(std::move(spawned));
  }();
  if (!started) {
    place->cgroup.remove();
    return started.error().within("cannot start a guest");
  }
  place->program.emplace(*std::move(started));
  write_down(key, *place);
  if (const Status listens = listen(key, *place); !listens) {
    place->program->signal(SIGKILL);
    return listens.error();
  }
  children_.expect(place->program->pid(), [this, key](int status) { guest_gone(key, status); });
  place->expiry =
      context_.loop.after(kUnusedLife, [this, key] { end_guest(key, "nobody came to its place"); });
  return place;
}

Status GuestPlaces::listen(const PlaceKey& key, Place& place) {
  DROVER_TRY(place.watch, context_.loop.watch(place.program->socket()->fd(), EPOLLIN,
                                              [this, key](std::uint32_t) { guest_says(key); }));
  return {};
}

Status GuestPlaces::issue_tickets(const PlaceKey& key, Place& place) {
  const auto now = EventLoop::Clock::now();
  const Ticket home_ticket = tickets_.issue({key, false}, now, now + kUnusedLife);
  place.answer.set_home_ticket(to_field(home_ticket));
  if (place.request.from_guest())
    place.answer.set_source_ticket(to_field(tickets_.issue({key, true}, now, now + kUnusedLife)));
  DROVER_TRY(const Ticket link, parse_ticket(field_bytes(place.request.link())));
  DROVER_TRY(place.channel_key, peers_.body_key(std::get<0>(key), link, true, std::get<1>(key),
                                                std::get<2>(key), home_ticket));
  return {};
}

void GuestPlaces::release(const std::string& from, const peer::ReleaseBody& request) {
  const PlaceKey key{from, request.job(), request.epoch()};
  const auto found = places_.find(key);
  // A place with a body in it ends by its channel, not by a message that may be late.
  if (found != places_.end() && !found->second->used) end_guest(key, "its home gave it up");
}

void GuestPlaces::channel(OwnedFd socket, const Ticket& ticket) {
  const auto owner = tickets_.redeem(ticket, EventLoop::Clock::now());
  const auto found = owner ? places_.find(owner->place) : places_.end();
  if (found == places_.end() || found->second->ending)
    return log_info("data port: connection refused: no such ticket");
  // Failing here, the connection closes.
  if (!fault_point("migrated.target.channel")) return;
  Place& place = *found->second;
  if (owner->from_guest) {
    order::GuestOrder order;
    order.mutable_accepted()->set_ticket(to_field(ticket));
    return give_order(place, order, std::array{socket.get()});
  }
  place.used = true;
  place.expiry.reset();
  place.last.set_state("building");
  write_down(owner->place, place);
  order::GuestOrder order;
  order::HostBody& body = *order.mutable_host_body();
  body.set_job(place.request.job());
  body.set_home(std::get<0>(owner->place));
  body.set_epoch(place.request.epoch());
  body.set_job_uid(place.request.uid());
  body.set_job_gid(place.request.gid());
  body.set_outer_uid(place.outer_uid);
  body.set_key(to_field(place.channel_key));
  body.set_protocol(place.answer.protocol());
  // Our own end is kept by the guest for whoever comes after us.
  std::vector<int> fds{socket.get(), place.program->socket()->fd()};
  const auto contents = contents_.introduce(std::get<0>(owner->place), place.request.uid());
  if (contents) fds.push_back(contents->fd());
  give_order(place, order, fds);
  place.channel_key.fill(std::byte{0});
}

std::vector<local::Guest> GuestPlaces::list() const {
  std::vector<local::Guest> guests;
  for (const auto& [key, place] : places_) {
    local::Guest& guest = guests.emplace_back();
    guest.set_home(std::get<0>(key));
    guest.set_job(std::get<1>(key));
    guest.set_epoch(std::get<2>(key));
    guest.set_uid(place->request.uid());
    guest.set_pid(place->request.pid());
    guest.set_state(place->ending ? "ending" : place->last.state());
    guest.set_cpu_ns(place->last.cpu_ns());
    guest.set_rss_bytes(place->last.rss_bytes());
    guest.set_supervisor(place->program->pid());
  }
  return guests;
}

void GuestPlaces::end_guests_of(const std::string& node) {
  std::vector<PlaceKey> keys;
  for (const auto& [key, place] : places_)
    if (std::get<0>(key) == node) keys.push_back(key);
  for (const PlaceKey& key : keys) end_guest(key, "its home has been revoked");
}

void GuestPlaces::abandon() {
  for (const auto& [key, place] : places_) {
    if (place->used) continue;
    place->program->signal(SIGKILL);
    ::waitpid(place->program->pid(), nullptr, 0);
    if (place->cgroup.remove()) forget(place->outer_uid);
  }
}

void GuestPlaces::guest_says(const PlaceKey& key) {
  const auto found = places_.find(key);
  if (found == places_.end()) return;
  Place& place = *found->second;
  auto packet = place.program->socket()->receive(kNoWait, 0);
  if (!packet && packet.error().code == ETIMEDOUT) return;
  if (!packet || !*packet) {
    place.watch.reset();  // it is about to end; if not, it is made to
    if (place.ending) return;
    place.expiry = context_.loop.after(kTermPatience,
                                       [this, key] { end_guest(key, "it has closed its socket"); });
    return;
  }
  const auto event = decode_message<order::GuestEvent>((*packet)->data, "guest");
  if (!event) return log_warn("{}: {}", describe(key), event.error().message());
  handle_event(key, place, *event);
}

void GuestPlaces::handle_event(const PlaceKey& key, Place& place, const order::GuestEvent& event) {
  switch (event.event_case()) {
    case order::GuestEvent::kDial:
      return dial_for(key, event.dial());
    case order::GuestEvent::kState: {
      const std::string before = place.last.state();
      place.last = event.state();
      if (!is_state(place.last.state())) place.last.set_state("?");
      place.last.set_rss_bytes(bodies_rss(place.program->pid(), place.outer_uid));
      if (place.last.state() != before) write_down(key, place);
      peer::PeerMessage message;
      peer::BodyState& state = *message.mutable_body_state();
      state.set_job(std::get<1>(key));
      state.set_epoch(std::get<2>(key));
      state.set_state(place.last.state());
      state.set_cpu_ns(place.last.cpu_ns());
      state.set_rss_bytes(place.last.rss_bytes());
      if (questions_ != nullptr) questions_->tell(std::get<0>(key), std::move(message));
      return;
    }
    case order::GuestEvent::kEnded:
      return log_info("{}: ended: {}", describe(key), event.ended().message());
    case order::GuestEvent::EVENT_NOT_SET:
      return log_warn("{}: says what is not known here", describe(key));
  }
}

/// A guest may have this daemon connect it to the data port of a member, and to nothing else.
void GuestPlaces::dial_for(const PlaceKey& key, const order::Dial& dial) {
  const auto ticket = parse_ticket(field_bytes(dial.ticket()));
  const auto refuse = [&](const std::string& why) {
    log_warn("{}: asks to dial {}: {}", describe(key), dial.address(), why);
    give_socket(key, true, dial.ticket(), refusal(why));
  };
  if (!ticket) return refuse(ticket.error().message());
  Place& place = *places_.at(key);
  if (place.dialling == dial.ticket()) return;  // asked again, when we were started again
  if (!place.used || place.ending || !place.dialling.empty()) return refuse("has no reason to");
  for (const Member& member : context_.membership->members()) {
    if (member.revoked) continue;
    for (const NodeAddress& address : member.addresses)
      if (format_data_address(address) == dial.address()) {
        place.dialling = dial.ticket();
        return dialler_.dial({address}, {Preamble::Kind::kBodyChannel, *ticket},
                             [this, key, ticket = dial.ticket()](Result<OwnedFd> socket) {
                               give_socket(key, true, ticket, std::move(socket));
                             });
      }
  }
  refuse("is no member's data address");
}

void GuestPlaces::give_socket(const PlaceKey& key, bool dialled, const std::string& ticket,
                              Result<OwnedFd> socket) {
  const auto found = places_.find(key);
  if (found == places_.end()) return;
  if (dialled && found->second->dialling == ticket) found->second->dialling.clear();
  order::GuestOrder order;
  order::GuestSocket& answer = dialled ? *order.mutable_dialled() : *order.mutable_accepted();
  answer.set_ticket(ticket);
  if (!socket) answer.set_error(socket.error().message());
  const int fd = socket ? socket->get() : -1;
  give_order(*found->second, order, std::span(&fd, socket ? 1 : 0));
}

/// Never waits for a guest: one that does not read is as good as gone.
void GuestPlaces::give_order(Place& place, const order::GuestOrder& order,
                             std::span<const int> fds) {
  LocalSocket* const socket = place.program->socket();
  const Status sent = socket ? socket->send(encode_message(order), fds, kNoWait)
                             : Status(Error{ENOTCONN, "its socket"});
  if (!sent)
    log_warn("guest {}: takes no orders: {}", place.program->pid(), sent.error().message());
}

void GuestPlaces::end_guest(const PlaceKey& key, const std::string& why) {
  const auto found = places_.find(key);
  if (found == places_.end() || found->second->ending) return;
  Place& place = *found->second;
  place.ending = true;
  log_info("{}: ends: {}", describe(key), why);
  place.program->signal(SIGTERM);
  place.expiry =
      context_.loop.after(kTermPatience, [program = &*place.program] { program->signal(SIGKILL); });
}

void GuestPlaces::guest_gone(const PlaceKey& key, std::optional<int> wait_status) {
  const auto found = places_.find(key);
  if (found == places_.end()) return;
  if (!wait_status)
    log_info("{}: has gone", describe(key));
  else if (WIFSIGNALED(*wait_status) && !found->second->ending)
    log_error("{}: died by signal {}", describe(key), WTERMSIG(*wait_status));
  else
    log_info("{}: has gone, status {}", describe(key), WEXITSTATUS(*wait_status));
  // What it said last is still in the socket.
  while (found->second->watch.active()) {
    auto packet = found->second->program->socket()->receive(kNoWait, 0);
    if (!packet || !*packet) break;
    if (const auto event = decode_message<order::GuestEvent>((*packet)->data, "guest"))
      if (!event->has_dial()) handle_event(key, *found->second, *event);
  }
  clean_up(std::make_shared<GuestCgroup>(std::move(found->second->cgroup)),
           found->second->outer_uid, 0);
  places_.erase(found);
}

/// Nothing of a guest may run when its uid is given to the next. What it has left is killed,
/// and dies in its own time.
void GuestPlaces::clean_up(const std::shared_ptr<GuestCgroup>& group, uid_t uid, int tries) {
  if (group->remove()) {
    if (tries > kCleanUpTries) log_info("guest uid {}: what was left of it is gone", uid);
    return forget(uid);
  }
  if (tries == kCleanUpTries)
    log_warn("guest uid {}: its guest has gone, but not {}: tried again every {} s", uid,
             group->remains(), kLateCleanUpPause / std::chrono::seconds(1));
  const std::uint64_t id = next_clean_up_++;
  const std::chrono::nanoseconds pause =
      tries < kCleanUpTries ? kCleanUpPause : std::chrono::nanoseconds(kLateCleanUpPause);
  clean_ups_[id] = context_.loop.after(pause, [this, group, uid, tries, id] {
    clean_up(group, uid, tries + 1);
    clean_ups_.erase(id);
  });
}

}  // namespace drover
