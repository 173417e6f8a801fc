#include "migrate/daemon_moves.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>

#include "common/fault.h"
#include "common/foreign_words.h"
#include "common/log.h"
#include "common/names.h"
#include "migrate/lease.h"
#include "migrate/messages.h"
#include "remote-syscall/hollow_thread.h"

namespace drover {
namespace {

constexpr char kHome[] = "home";
/// More than any system call has. All that a program makes of other numbers count as this one.
constexpr int kNoSuchCall = 1024;
constexpr std::size_t kMostWordsOfText = 1000;

bool is_call(int number) { return number >= 0 && number < kNoSuchCall; }

std::string describe_end(std::optional<int> wait_status) {
  if (!wait_status) return "it is not known how";  // no child of ours
  return WIFSIGNALED(*wait_status) ? fmt::format("signal {}", WTERMSIG(*wait_status))
                                   : fmt::format("status {}", WEXITSTATUS(*wait_status));
}

std::string describe(const Job& job) {
  return fmt::format("job {} ({})", job.pid, plain_words(job.command));
}

}  // namespace

Moves::Moves(NodeContext& context, Children& children, Dialler& dialler, Peers& peers,
             JobRegistry& jobs, DeputyGone deputy_gone)
    : context_(context),
      dialler_(dialler),
      peers_(peers),
      jobs_(jobs),
      deputy_gone_(std::move(deputy_gone)),
      machine_(own_machine()),
      deputies_(
          context, children,
          {[this](const std::string& job, const order::DeputyEvent& event) {
             deputy_says(job, event);
           },
           [this](const std::string& job, std::optional<int> wait_status, JobStderr job_stderr) {
             this->deputy_gone(job, wait_status, std::move(job_stderr));
           }}) {}

void Moves::migrate(const JobPtr& job, const std::string& target, Done done) {
  const bool homeward = target == kHome || target == context_.settings.node;
  // mosrun has become another program since it registered.
  if (const auto process = read_process(job->pid)) job->command = process->command;
  const auto refuse = [&](const Error& why) {
    job->last_refusal = fmt::format("cannot move to {}: {}", target, why.message());
    jobs_.changed(*job);
    log_info("{}: {}", describe(*job), job->last_refusal);
    done(why);
  };
  if (moves_.count(job->id) || job->moving()) return refuse(refusal("is being moved already"));
  if (job->state == JobState::kHome) {
    if (homeward) return refuse(refusal("is at home already"));
    if (deputies_.present(job->id)) return refuse(refusal("is only just coming home"));
    if (const Status good = check_target(target); !good) return refuse(good.error());
    const auto against = reasons(*job);
    if (!against.empty()) return refuse(refusal("declined: " + against.front()));
    return begin(job, JobState::kLeaving, target, std::move(done));
  }
  if (!job->away()) return refuse(refusal("is " + std::string(job_state_name(job->state))));
  if (!deputies_.present(job->id)) return refuse(refusal("has a deputy that takes no orders"));
  if (const auto against = reasons(*job); !against.empty()) return refuse(refusal(against.front()));
  if (homeward) return begin(job, JobState::kComingHome, kHome, std::move(done));
  if (target == job->where) return refuse(refusal("is on " + target + " already"));
  if (const Status good = check_target(target); !good) return refuse(good.error());
  begin(job, JobState::kHopping, target, std::move(done));
}

std::vector<std::string> Moves::reasons(const Job& job) const {
  if (job.state == JobState::kLost || job.state == JobState::kEnded) return {"has ended"};
  if (job.moving()) return {"is being moved already"};
  if (job.body_lost)
    return {
        fmt::format("waits for the end of its body on {}, which is lost: then it goes on at "
                    "home from where it left",
                    job.where)};
  if (job.silent) return {fmt::format("is held: nothing is heard of {}", job.where)};
  if (job.away()) return {};
  const auto process = read_process(job.pid);
  if (!process || process->start_ticks != job.start_ticks) return {"has ended"};
  return objections_to_moving(*process, context_.settings.allow_root_jobs, false);
}

Status Moves::check_target(const std::string& target) const {
  const Member* member = context_.membership->find(target);
  if (member == nullptr) return refusal(target + " is not a node of the cluster");
  if (member->revoked) return refusal(target + " has been revoked");
  if (!context_.membership->active(context_.settings.node))
    return refusal("this node is no member of a cluster");
  const auto& zones = context_.settings.send_zones;
  if (std::ranges::find(zones, member->zone) == zones.end())
    return refusal(fmt::format("{} is in the zone {}, to which own jobs are not sent (send-zones)",
                               target, member->zone));
  return {};
}

void Moves::begin(const JobPtr& job, JobState kind, const std::string& target, Done done) {
  auto move = std::make_shared<Move>();
  move->job = job;
  move->kind = kind;
  move->target = target;
  move->done = std::move(done);
  moves_.emplace(job->id, move);
  job->state = kind;
  jobs_.changed(*job);
  if (kind == JobState::kComingHome) return recall(move);
  connect(move);
}

void Moves::connect(const MovePtr& move) {
  move->epoch = ++move->job->epoch;
  jobs_.changed(*move->job);
  peers_.connect(move->target,
                 [this, move](Result<Peers::LinkName> link) { link_ready(move, std::move(link)); });
}

void Moves::recall(const MovePtr& move) {
  order::DeputyOrder order;
  order.mutable_recall()->set_reason("asked");
  order.mutable_recall()->set_distrusted(unwanted_places_.count(move->job->id) > 0);
  move->ordered = true;
  ordered_or_failed(move, deputies_.give_order(move->job->id, order));
}

/// A deputy that has just ended takes no order, but what it said last is on its way.
void Moves::ordered_or_failed(const MovePtr& move, const Status& ordered) {
  if (!ordered && ordered.error().code != EPIPE) fail(move, ordered.error());
}

void Moves::link_ready(const MovePtr& move, Result<Peers::LinkName> link) {
  if (!current(move)) return;
  if (!link) return fail(move, link.error());
  if (const Status passed = fault_point("migrated.home.linked"); !passed)
    return fail(move, passed.error());
  const auto process = read_process(move->job->pid);
  if (!process) return fail(move, refusal("has ended"));
  move->link = *link;
  peer::PeerMessage message;
  peer::PrepareBody& prepare = *message.mutable_prepare_body();
  prepare.set_job(move->job->id);
  prepare.set_epoch(move->epoch);
  prepare.set_pid(move->job->pid);
  prepare.set_uid(move->job->uid);
  prepare.set_gid(move->job->gid);
  prepare.set_memory_bytes(std::max({move->job->options.memory_bytes, move->job->away_rss_bytes,
                                     process->rss_bytes + process->swap_bytes}));
  *prepare.mutable_home() = machine_;
  prepare.set_link(to_field(*link));
  prepare.set_from_guest(move->kind == JobState::kHopping);
  const auto spoken = spoken_by_deputy(*move);
  if (!spoken) return fail(move, spoken.error());
  move->spoken = *spoken;
  prepare.set_oldest_protocol(spoken->oldest);
  prepare.set_newest_protocol(spoken->newest);
  move->asked_at = wall_clock();
  questions_->ask(move->target, std::move(message), [this, move](Result<peer::PeerMessage> answer) {
    place_ready(move, std::move(answer));
  });
}

void Moves::place_ready(const MovePtr& move, Result<peer::PeerMessage> answer) {
  if (!answer && current(move) && answer.error().code == ENOLINK && !move->linked_anew) {
    // It ended there without our hearing of it.
    move->linked_anew = true;
    peers_.forget(move->target, move->link);
    return connect(move);
  }
  if (!answer) return current(move) ? fail(move, answer.error()) : void();
  move->prepared = true;
  if (!current(move)) return;
  move->place = answer->prepared();
  if (const std::uint32_t told = protocol_said(move->place.protocol()); !move->spoken.has(told))
    return fail(move,
                refusal(fmt::format("{} would speak version {} of the protocol, and this node {}",
                                    move->target, told, in_words(move->spoken))));
  if (const Status passed = fault_point("migrated.home.prepared"); !passed)
    return fail(move, passed.error());
  const auto skew = least_clock_skew(
      move->asked_at, std::chrono::nanoseconds(move->place.realtime_ns()), wall_clock());
  if (skew > kMostClockSkew)
    return fail(move, refusal(fmt::format("the clock of {} differs from ours by {} ms",
                                          move->target, skew / std::chrono::milliseconds(1))));
  const auto ticket = parse_ticket(field_bytes(move->place.home_ticket()));
  const Member* member = context_.membership->active(move->target);
  if (!ticket || member == nullptr)
    return fail(move, refusal(move->target + " is no member any more"));
  dialler_.dial(member->addresses, {Preamble::Kind::kBodyChannel, *ticket},
                [this, move](Result<OwnedFd> socket) { socket_ready(move, std::move(socket)); });
}

void Moves::socket_ready(const MovePtr& move, Result<OwnedFd> socket) {
  if (!current(move)) return;
  if (!socket) return fail(move, socket.error());
  if (const Status passed = fault_point("migrated.home.dialled"); !passed)
    return fail(move, passed.error());
  if (move->kind == JobState::kLeaving)
    if (const Status started = start_deputy(move->job); !started)
      return fail(move, started.error());
  ordered_or_failed(move, order_deputy(move, *socket));
}

/// A new one speaks what this node does; one that has been there longer may be of another version.
Result<ProtocolRange> Moves::spoken_by_deputy(const Move& move) const {
  const ProtocolRange own = context_.settings.speaks;
  if (move.kind == JobState::kLeaving || !move.job->deputy) return own;
  const ProtocolRange its = move.job->deputy->speaks;
  if (const auto both = common_protocols(own, its)) return *both;
  return refusal(
      fmt::format("has a deputy that speaks {}, and this node {}", in_words(its), in_words(own)));
}

Status Moves::start_deputy(const JobPtr& job) {
  DROVER_TRY(job->deputy, deputies_.start(*job));
  job->moves_before = job->moves;
  jobs_.changed(*job);
  return {};
}

Status Moves::order_deputy(const MovePtr& move, const OwnedFd& socket) {
  DROVER_TRY(const Ticket ticket, parse_ticket(field_bytes(move->place.home_ticket())));
  const auto key =
      peers_.body_key(move->target, move->link, false, move->job->id, move->epoch, ticket);
  if (!key) return refusal("this node " + key.error().message());
  order::DeputyOrder order;
  if (move->kind == JobState::kLeaving) {
    order::Outbound& outbound = *order.mutable_outbound();
    outbound.set_job(move->job->id);
    outbound.set_epoch(move->epoch);
    outbound.set_pid(move->job->pid);
    outbound.set_target(move->target);
    outbound.set_key(to_field(*key));
    outbound.set_root_allowed(context_.settings.allow_root_jobs);
    outbound.set_protocol(move->place.protocol());
    outbound.set_lease_ms(static_cast<std::uint32_t>(lease_of(*move->job).count()));
    outbound.set_keep_memory(move->job->options.keep_memory);
  } else {
    const Member* member = context_.membership->active(move->target);
    if (member == nullptr) return refusal(move->target + " is no member any more");
    order::Hop& hop = *order.mutable_hop();
    hop.set_epoch(move->epoch);
    hop.set_target(move->target);
    hop.set_key(to_field(*key));
    hop.set_source_address(format_data_address(member->addresses.front()));
    hop.set_source_ticket(move->place.source_ticket());
    hop.set_protocol(move->place.protocol());
  }
  DROVER_CHECK(deputies_.give_order(move->job->id, order, &socket));
  move->ordered = true;
  return {};
}

/// False if the move has been given up while one of its steps was under way.
bool Moves::current(const MovePtr& move) const {
  const auto found = moves_.find(move->job->id);
  return found != moves_.end() && found->second == move;
}

void Moves::fail(const MovePtr& move, const Error& why) {
  release_place(*move);
  Job& job = *move->job;
  if (job.moving())
    job.state = move->kind == JobState::kLeaving ? JobState::kHome : JobState::kAway;
  if (move->kind == JobState::kLeaving && !move->ordered) deputies_.dismiss(job.id);
  finish(move, why);
}

void Moves::job_ended(const JobPtr& job) {
  const auto found = moves_.find(job->id);
  if (found != moves_.end()) fail(MovePtr(found->second), refusal("has ended"));
}

/// Tells the target, if it was asked for a place, that nobody will come; one with a body in it
/// pays no heed. Said even if no answer has come: that may be on its way.
void Moves::release_place(const Move& move) {
  if (move.asked_at.count() == 0) return;
  peer::PeerMessage message;
  message.mutable_release_body()->set_job(move.job->id);
  message.mutable_release_body()->set_epoch(move.epoch);
  questions_->tell(move.target, std::move(message));
}

void Moves::finish(const MovePtr& move, Result<local::Migrated> outcome) {
  if (!current(move)) return;
  moves_.erase(move->job->id);
  Job& job = *move->job;
  if (outcome) {
    job.last_refusal.clear();
  } else {
    job.last_refusal =
        fmt::format("cannot move to {}: {}", move->target, outcome.error().message());
    log_info("{}: {}", describe(job), job.last_refusal);
  }
  jobs_.changed(job);
  move->done(std::move(outcome));
  if (move->kind != JobState::kComingHome) bring_home();
}

void Moves::distrust(const std::string& node) {
  for (const JobPtr& job : jobs_.jobs()) {
    const auto found = moves_.find(job->id);
    const MovePtr move = found == moves_.end() ? nullptr : found->second;
    const bool goes_there = move && move->target == node;
    if (goes_there || job->where == node) unwanted_places_[job->id] = node;
    if (goes_there && !move->ordered) fail(move, refusal(node + " is not trusted any more"));
  }
  bring_home();
}

/// A move that is under way is let end first: only then is it known where the process is.
void Moves::bring_home() {
  const auto places = unwanted_places_;  // a homecoming that fails at once changes nothing here
  for (const auto& [id, node] : places) {
    const JobPtr job = jobs_.find(id);
    if (moves_.count(id) || (job && job->moving())) continue;
    if (job && job->away() && job->where == node)
      migrate(job, kHome, [](const Result<local::Migrated>&) {});
    else
      unwanted_places_.erase(id);
  }
  next_try_.reset();
  if (!unwanted_places_.empty())
    next_try_ = context_.loop.after(kNextTry, [this] { bring_home(); });
}

void Moves::deputy_says(const std::string& id, const order::DeputyEvent& event) {
  const JobPtr job = jobs_.find(id);
  if (!job) return;
  switch (event.event_case()) {
    case order::DeputyEvent::kMoveEnded:
      return move_ended(job, event.move_ended());
    case order::DeputyEvent::kCounters: {
      JobCounters counters;
      for (const order::CallCount& call : event.counters().calls())
        counters.calls[is_call(call.number()) ? call.number() : kNoSuchCall] +=
            CallCounter{call.served(), call.forced_home()};
      counters.failed_moves = event.counters().failed_moves();
      counters.away_ns = event.counters().away_ns();
      counters.remote_cpu_ns = event.counters().remote_cpu_ns();
      job->kept = event.counters().kept();
      job->kept_why_not = event.counters().why_not();
      return job->count(std::move(counters), EventLoop::Clock::now());
    }
    case order::DeputyEvent::kEnded:
      job->wait_status = event.ended().wait_status();
      job->state = JobState::kEnded;
      jobs_.changed(*job);
      if (!event.ended().message().empty())
        log_info("{}: {}", describe(*job), event.ended().message());
      return deputies_.expect_exit(id);
    case order::DeputyEvent::kStanding:
      return standing(job, event.standing());
    case order::DeputyEvent::kBodyLost:
      job->forget_body();
      job->body_lost = true;
      return log_warn("{}: {} is lost: {}; it goes on at home from where it left in {} s",
                      describe(*job), job->where, event.body_lost().why(),
                      event.body_lost().wait_ms() / 1000);
    case order::DeputyEvent::kSilence:
      return fell_silent(job, event.silence().silent());
    case order::DeputyEvent::kStop:
      job->stopped = event.stop().stopped();
      return;
    case order::DeputyEvent::EVENT_NOT_SET:
      return log_warn("{}: its deputy says what is not known here", describe(*job));
  }
}

void Moves::move_ended(const JobPtr& job, const order::MoveEnded& event) {
  const auto found = moves_.find(job->id);
  const MovePtr move = found == moves_.end() ? nullptr : found->second;
  if (event.ok() && !valid_name(event.to()))
    log_warn("{}: its deputy says that it is where no node is", describe(*job));
  else if (event.ok())
    moved(job, move, event);
  else
    not_moved(job, move, event);
}

void Moves::moved(const JobPtr& job, const MovePtr& move, const order::MoveEnded& event) {
  const bool to_home = event.to() == kHome || event.to() == context_.settings.node;
  const std::string from = event.from() == kHome ? context_.settings.node : event.from();
  job->where = to_home ? context_.settings.node : event.to();
  job->moves += 1;
  job->away_rss_bytes = 0;
  job->silent = false;
  if (to_home) job->forget_body();
  log_info("{}: moved from {} to {}, frozen {:.1f} ms, {} bytes, epoch {} ({})", describe(*job),
           from, job->where, event.freeze_ns() / 1e6, event.bytes(), event.epoch(), event.reason());
  local::Migrated done;
  done.set_from(from);
  done.set_to(job->where);
  done.set_freeze_ns(event.freeze_ns());
  done.set_bytes(event.bytes());
  done.set_duration_ns(event.duration_ns());
  if (!to_home) {
    job->state = JobState::kAway;
    job->body_epoch = event.epoch();
    jobs_.changed(*job);
    if (move && move->epoch == event.epoch()) finish(move, done);
    return;
  }
  job->state = JobState::kHome;
  jobs_.changed(*job);
  deputies_.expect_exit(job->id);
  if (!move) return;
  if (move->kind == JobState::kComingHome)
    move->outcome = std::make_unique<Result<local::Migrated>>(done);
  else
    fail(move, refusal("it came home meanwhile: " + event.reason()));
}

void Moves::not_moved(const JobPtr& job, const MovePtr& move, const order::MoveEnded& event) {
  const bool too_long = event.error().size() > kMostWordsOfText;
  const Error why = refusal(too_long ? "its deputy says too much" : event.error());
  const bool ours = move && (move->kind == JobState::kComingHome || move->epoch == event.epoch());
  if (!ours) {
    log_warn("{}: could not move from {} to {}: {}", describe(*job), event.from(), event.to(),
             event.error());
    if (!move && job->moving()) earlier_move_failed(job);
    return;
  }
  release_place(*move);
  job->state = move->kind == JobState::kLeaving ? JobState::kHome : JobState::kAway;
  if (move->kind != JobState::kLeaving || !deputies_.present(job->id)) return finish(move, why);
  // Its process is at home, so the deputy exits.
  deputies_.expect_exit(job->id);
  move->outcome = std::make_unique<Result<local::Migrated>>(why);
}

void Moves::fell_silent(const JobPtr& job, bool silent) {
  job->silent = silent;
  if (silent)
    log_warn("{}: nothing is heard of {}: it is held for {} s", describe(*job), job->where,
             context_.settings.lease.count());
  else
    log_info("{}: {} is heard again", describe(*job), job->where);
  if (!silent) bring_home();
}

/// The shortest makes a deputy end its process as soon as it notices the silence.
std::chrono::milliseconds Moves::lease_of(const Job& job) const {
  return job.options.on_loss == OnLoss::kKill ? kLease : context_.settings.lease;
}

void Moves::deputy_gone(const std::string& id, std::optional<int> wait_status,
                        JobStderr job_stderr) {
  const JobPtr job = jobs_.find(id);
  if (!job) return;
  job->settle_counters();
  job->deputy.reset();
  job->forget_body();
  jobs_.changed(*job);
  const auto found = moves_.find(id);
  const MovePtr move = found == moves_.end() ? nullptr : found->second;
  if (move && move->outcome) {
    const auto outcome = std::move(move->outcome);
    finish(move, std::move(*outcome));
  } else if (job->state == JobState::kEnded) {
    if (move) finish(move, refusal("has ended"));
  } else if (job->state != JobState::kHome) {
    // A process that was held hollow is dying now (EXITKILL), one that was not goes on: which
    // of the two is seen in a moment.
    const std::string how = describe_end(wait_status);
    auto voice = std::make_shared<JobStderr>(std::move(job_stderr));
    inquests_[id] = context_.loop.after(kInquest, [this, job, how, voice] {
      deputy_died(job, how, *voice);
      inquests_.erase(job->id);
      deputy_gone_(job);
    });
    return;
  }
  deputy_gone_(job);
}

/// It has ended though its process was away or on the way.
void Moves::deputy_died(const JobPtr& job, const std::string& how, const JobStderr& job_stderr) {
  const auto found = moves_.find(job->id);
  const MovePtr move = found == moves_.end() ? nullptr : found->second;
  if (is_alive(*job)) {
    at_home(job);
    log_error("{}: its deputy died ({}); the process runs on at home", describe(*job), how);
    if (move) finish(move, refusal("its deputy died (" + how + "); it runs on at home"));
    return;
  }
  job->state = JobState::kLost;
  jobs_.changed(*job);
  const std::string words = fmt::format("{}: was lost: its deputy died ({}) while it was on {}",
                                        job->pid, how, job->where);
  log_error("{}", words);
  job_stderr.say("drover: " + words);
  if (move) finish(move, refusal("was lost: its deputy died (" + how + ")"));
}

bool Moves::is_alive(const Job& job) {
  const auto process = read_process(job.pid);
  // One that is being killed may take its time about it, in a wait that nothing interrupts.
  const auto pending = pending_signals(job.pid);
  const bool dying = pending && (*pending & signal_bit(SIGKILL)) != 0;
  return process && process->start_ticks == job.start_ticks && !dying && process->state != 'Z' &&
         process->state != 'X';
}

}  // namespace drover
