#include "migrate/daemon_settings.h"

namespace drover {

Options daemon_options() {
  Options options("migrated", "[options]",
                  "Owns this node's jobs and guests: starts, moves and hosts them.");
  for (const char* key : {"node-name",   "zone",           "bind-address",
                          "data-port",   "control-port",   "state-dir",
                          "run-dir",     "members",        "admin-key",
                          "deputy-user", "guest-uid-base", "guest-uid-count",
                          "guest-zones", "send-zones",     "allow-root-jobs",
                          "block",       "lease-seconds",  "newest-protocol",
                          "max-guests",  "cache-dir",      "cache-size-mb",
                          "log-level",   "fault"})
    options.use(key);
  options.operands(0, 0);
  return options;
}

Result<DaemonSettings> daemon_settings(const Options& options) {
  DaemonSettings s;
  s.node = options.text("node-name");
  s.bind_address = options.text("bind-address");
  s.data_port = options.port("data-port");
  s.control_port = options.port("control-port");
  s.state_dir = options.text("state-dir");
  s.run_dir = options.text("run-dir");
  s.members_path = options.text("members");
  s.admin_key_path = options.text("admin-key");
  s.guest_uid_base = static_cast<uid_t>(options.number("guest-uid-base"));
  s.guest_uid_count = static_cast<std::uint32_t>(options.number("guest-uid-count"));
  s.guest_zones = options.names("guest-zones");
  s.send_zones = options.names("send-zones");
  s.allow_root_jobs = options.yes("allow-root-jobs");
  s.lease = std::chrono::seconds(options.number("lease-seconds"));
  s.speaks.newest = static_cast<std::uint32_t>(options.number("newest-protocol"));
  s.block = options.yes("block");
  s.max_guests = options.number("max-guests");
  s.cache_dir = options.text("cache-dir");
  s.cache_bytes = static_cast<std::uint64_t>(options.number("cache-size-mb")) << 20;
  DROVER_TRY(s.spawn.program_directory, own_program_directory());
  s.spawn.node = s.node;
  s.spawn.fault = options.text("fault");
  s.spawn.deputy_user = options.text("deputy-user");
  s.spawn.guest_root = s.run_dir;
  return s;
}

}  // namespace drover
