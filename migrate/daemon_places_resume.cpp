// Guests of the life before: what GuestPlaces does after a restart, and writes down for it.
#include <algorithm>
#include <csignal>

#include "common/log.h"
#include "common/names.h"
#include "migrate/daemon_places.h"
#include "migrate/job_record.h"
#include "migrate/record.pb.h"

namespace drover {
namespace {

constexpr std::chrono::milliseconds kReclaimPause{50};

/// A guest has a pair of uids for itself until nothing is left of it.
std::string record_name(uid_t outer_uid) { return "uid-" + std::to_string(outer_uid); }

Result<record::Guest> decode_guest(const std::string& name, const std::string& text) {
  record::Guest guest;
  if (!guest.ParseFromString(text) || record_name(guest.outer_uid()) != name ||
      !valid_name(guest.home()) || !valid_job_id(guest.job()))
    return refusal("not the record of a guest");
  return guest;
}

}  // namespace

void GuestPlaces::write_down(const PlaceKey& key, const Place& place) const {
  record::Guest guest;
  guest.set_home(std::get<0>(key));
  guest.set_job(std::get<1>(key));
  guest.set_epoch(std::get<2>(key));
  guest.set_pid(place.request.pid());
  guest.set_uid(place.request.uid());
  guest.set_outer_uid(place.outer_uid);
  for (const std::string& directory : place.cgroup.directories()) guest.add_cgroups(directory);
  guest.set_used(place.used);
  guest.set_state(place.last.state());
  if (place.program) *guest.mutable_program() = to_record(place.program->identity());
  const Status kept = records_.put(record_name(place.outer_uid), guest.SerializeAsString());
  if (!kept) log_error("a guest will not be known after a restart: {}", kept.error().message());
}

void GuestPlaces::forget(uid_t outer_uid) {
  records_.remove(record_name(outer_uid));
  uids_.give_back(outer_uid);
}

void GuestPlaces::resume() {
  for (const auto& [name, text] : records_.all()) {
    const auto guest = decode_guest(name, text);
    if (guest) {
      resume_guest(*guest);
    } else {
      log_warn("record dropped: {}: {}", name, guest.error().message());
      records_.remove(name);
    }
  }
}

void GuestPlaces::resume_guest(const record::Guest& guest) {
  uids_.mark_used(guest.outer_uid());
  auto group = GuestCgroup::made_before({guest.cgroups().begin(), guest.cgroups().end()});
  auto program = Program::find(from_record(guest.program()));
  if (!program) {
    log_info("guest of {} (job {}): has gone while migrated was not there", guest.home(),
             guest.job().substr(0, 8));
    clean_up(std::make_shared<GuestCgroup>(std::move(group)), guest.outer_uid(), 0);
    return;
  }
  const PlaceKey key{guest.home(), guest.job(), guest.epoch()};
  auto place = std::make_unique<Place>(std::move(group), guest.outer_uid());
  place->program.emplace(*std::move(program));
  place->request.set_job(guest.job());
  place->request.set_epoch(guest.epoch());
  place->request.set_pid(guest.pid());
  place->request.set_uid(guest.uid());
  place->used = guest.used();
  place->last.set_state(guest.state());
  auto watch = context_.loop.watch(place->program->pidfd(), EPOLLIN,
                                   [this, key](std::uint32_t) { guest_gone(key, std::nullopt); });
  if (!watch) return log_error("guest {}: {}", guest.program().pid(), watch.error().message());
  place->end_watch = *std::move(watch);
  const Place& found = *places_.emplace(key, std::move(place)).first->second;
  log_info("guest of {} (job {}, epoch {}): found again, pid {}", guest.home(),
           guest.job().substr(0, 8), guest.epoch(), found.program->pid());
  if (found.used)
    reclaim(key, EventLoop::Clock::now() + kReclaimPatience);
  else
    end_guest(key, "its tickets are no more");
}

/// One that keeps no socket for us lives on; what it cannot do is to leave for another node.
void GuestPlaces::reclaim(const PlaceKey& key, EventLoop::Clock::time_point deadline) {
  const auto found = places_.find(key);
  if (found == places_.end() || found->second->ending) return;
  Place& place = *found->second;
  const Status reclaimed = place.program->reclaim_socket();
  if (!reclaimed && EventLoop::Clock::now() < deadline) {
    place.expiry =
        context_.loop.after(kReclaimPause, [this, key, deadline] { reclaim(key, deadline); });
    return;
  }
  place.expiry.reset();
  const Status listens = reclaimed ? listen(key, place) : reclaimed;
  if (!listens)
    return log_error("guest {} takes no orders: {}", place.program->pid(),
                     listens.error().message());
  order::GuestOrder order;
  order.mutable_resumed();
  give_order(place, order, {});
}

std::set<std::string> GuestPlaces::homes() const {
  std::set<std::string> homes;
  for (const auto& [key, place] : places_) homes.insert(std::get<0>(key));
  return homes;
}

}  // namespace drover
