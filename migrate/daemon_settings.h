// What migrated is told by its configuration, and what it shares among its parts.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/identity.h"
#include "common/membership.h"
#include "common/protocol.h"
#include "migrate/daemon_events.h"
#include "migrate/spawn.h"

namespace drover {

struct DaemonSettings {
  std::string node;
  std::string bind_address;
  std::uint16_t data_port = 0;
  std::uint16_t control_port = 0;
  std::string state_dir;
  std::string run_dir;
  std::string members_path;
  std::string admin_key_path;
  uid_t guest_uid_base = 0;
  std::uint32_t guest_uid_count = 0;
  std::vector<std::string> guest_zones;
  std::vector<std::string> send_zones;
  bool allow_root_jobs = false;
  std::chrono::seconds lease{0};  ///< for which a job is held whose node has fallen silent
  ProtocolRange speaks{};         ///< versions of the protocol, with other nodes
  bool block = false;
  std::size_t max_guests = 0;
  std::string cache_dir;
  std::uint64_t cache_bytes = 0;
  SpawnSettings spawn;
};

/// The options that migrated understands.
Options daemon_options();
/// Their values, once parsed.
Result<DaemonSettings> daemon_settings(const Options& options);

/// What every part of the daemon works with. The membership list is replaced as a whole.
struct NodeContext {
  EventLoop& loop;
  const DaemonSettings& settings;
  const NodeKeys& keys;
  std::shared_ptr<const Membership> membership;
};

}  // namespace drover
