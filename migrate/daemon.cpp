#include "migrate/daemon.h"

#include <fmt/format.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include <csignal>

#include "common/durable_file.h"
#include "common/log.h"
#include "migrate/local_client.h"

namespace drover {
namespace {

constexpr std::chrono::seconds kMembershipCheck{1};
constexpr char kSerialFile[] = "/members.serial";

/// Changes with every new version of the file.
std::string file_stamp(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) < 0) return "none";
  return fmt::format("{}:{}:{}.{}", status.st_ino, status.st_size, status.st_mtim.tv_sec,
                     status.st_mtim.tv_nsec);
}

}  // namespace

Result<std::unique_ptr<Daemon>> Daemon::open(const DaemonSettings& settings) {
  DROVER_CHECK(make_directories(settings.run_dir, 0755));
  DROVER_TRY(OwnedFd claim, claim_run_directory(settings.run_dir));
  DROVER_TRY(auto loop, EventLoop::create());
  DROVER_TRY(NodeKeys keys, NodeKeys::load_or_create(settings.state_dir + "/keys"));
  std::unique_ptr<Daemon> daemon(
      new Daemon(settings, std::move(loop), std::move(keys), std::move(claim)));
  DROVER_CHECK(daemon->start());
  return daemon;
}

Daemon::Daemon(const DaemonSettings& settings, std::unique_ptr<EventLoop> loop, NodeKeys keys,
               OwnedFd claim)
    : settings_(settings),
      claim_(std::move(claim)),
      loop_(std::move(loop)),
      keys_(std::move(keys)),
      context_{*loop_, settings_, keys_, nullptr},
      jobs_(settings_.node, [](pid_t pid) { return read_process(pid); }) {}

Status Daemon::start() {
  DROVER_CHECK(watch_signals());
  DROVER_CHECK(open_records());
  DROVER_TRY(children_, Children::create(*loop_));
  DROVER_TRY(Membership nobody, Membership::create());
  context_.membership = std::make_shared<const Membership>(std::move(nobody));
  DROVER_TRY(bus_, ControlBus::open(keys_, context_.membership, settings_.bind_address,
                                    settings_.control_port));
  dialler_.emplace(*loop_);
  peers_.emplace(context_, *dialler_);
  places_.emplace(context_, *children_, *dialler_, *peers_, *guest_records_);
  moves_.emplace(context_, *children_, *dialler_, *peers_, jobs_,
                 [this](const JobPtr& job) { end_if_over(job); });
  DROVER_TRY(questions_,
             Questions::create(*loop_, *bus_, settings_.speaks,
                               [this](const std::string& from, const peer::PeerMessage& message) {
                                 return asked_by_node(from, message);
                               }));
  places_->use_bus(*questions_);
  moves_->use_bus(*questions_);
  DROVER_TRY(data_port_, DataPort::open(*loop_, settings_.bind_address, settings_.data_port,
                                        [this](OwnedFd socket, const Preamble& preamble) {
                                          connection_came(std::move(socket), preamble);
                                        }));
  refresh_membership();
  membership_timer_ = loop_->every(kMembershipCheck, [this] { refresh_membership(); });
  resume();
  DROVER_TRY(local_, LocalServer::open(
                         *loop_, settings_.run_dir + "/" + kLocalSocketName,
                         [this](const PeerCredentials& who, const local::Request& request,
                                LocalServer::Answer answer) {
                           asked_locally(who, request, std::move(answer));
                         },
                         [this](const PeerCredentials& who) { program_started(who); }));
  return {};
}

Status Daemon::run() {
  log_info("node {} is up: data port {}, control port {}", settings_.node, data_port_->port(),
           bus_->port());
  Status ran = loop_->run();
  places_->abandon();
  write_down_jobs();
  return ran;
}

Status Daemon::watch_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&set, signal);
  signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return errno_error("signalfd");
  DROVER_TRY(signal_watch_, loop_->watch(signals_.get(), EPOLLIN, [this](std::uint32_t) {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGHUP) {
        membership_stamp_.clear();
        refresh_membership();
      } else {
        log_info("stops: signal {}; jobs that are away stay away", info.ssi_signo);
        loop_->stop();
      }
    }
  }));
  return {};
}

Result<std::shared_ptr<const Membership>> Daemon::load_membership() const {
  DROVER_TRY(const Ed25519PublicKey admin, load_admin_public_key(settings_.admin_key_path));
  DROVER_TRY(Membership list, Membership::load(settings_.members_path, admin));
  DROVER_CHECK(accept_serial(settings_.state_dir + kSerialFile, list));
  return std::make_shared<const Membership>(std::move(list));
}

/// Takes a new list into force. One that cannot be used is said once, and the last one stays.
void Daemon::refresh_membership() {
  const std::string stamp =
      file_stamp(settings_.members_path) + " " + file_stamp(settings_.admin_key_path);
  if (stamp == membership_stamp_) return;
  membership_stamp_ = stamp;
  auto loaded = load_membership();
  if (!loaded) return log_warn("membership list not used: {}", loaded.error().message());
  const auto before = std::exchange(context_.membership, *std::move(loaded));
  bus_->set_membership(context_.membership);
  const Member* self = context_.membership->active(settings_.node);
  log_info("membership list {}: {} nodes{}", context_.membership->serial(),
           context_.membership->members().size(), self ? "" : ", this one is not among them");
  if (self != nullptr && self->keys != keys_.public_keys())
    log_error("the membership list has other keys for {} than this node has", settings_.node);
  for (const std::string& node : no_longer_trusted(*before, *context_.membership)) distrust(node);
}

void Daemon::distrust(const std::string& node) {
  log_warn("{} is not trusted any more", node);
  moves_->distrust(node);
  peers_->drop(node);
  places_->end_guests_of(node);
}

std::optional<peer::PeerMessage> Daemon::asked_by_node(const std::string& from,
                                                       const peer::PeerMessage& message) {
  const auto allowed = [&](Verb verb) { return may_use(Caller::kRemoteNode, verb); };
  if (message.has_prepare_body() && allowed(Verb::kPrepareBody))
    return places_->prepare(from, spoken_by(message), message.prepare_body());
  if (message.has_release_body() && allowed(Verb::kReleaseBody))
    places_->release(from, message.release_body());
  if (message.has_body_state() && allowed(Verb::kBodyState)) {
    const peer::BodyState& state = message.body_state();
    const JobPtr job = jobs_.find(state.job());
    // Only the node that the body was sent to is listened to, and only about that body.
    if (job && job->where == from && job->body_epoch == state.epoch())
      job->away_rss_bytes = state.rss_bytes();
  }
  return std::nullopt;
}

void Daemon::connection_came(OwnedFd socket, const Preamble& preamble) {
  if (preamble.kind == Preamble::Kind::kPeerLink)
    peers_->accept(std::move(socket), preamble.ticket);
  else if (may_use(Caller::kRemoteNode, Verb::kOpenChannel))
    places_->channel(std::move(socket), preamble.ticket);
}

}  // namespace drover
