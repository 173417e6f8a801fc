#include "remote-syscall/body_limits.h"

#include <sys/resource.h>

#include <algorithm>

namespace drover {
namespace {

std::uint64_t sum(std::uint64_t a, std::uint64_t b) {
  return a > Limit::kNone - b ? Limit::kNone : a + b;
}

Limit with_ours(const Limit& limit, std::uint64_t at_home, std::uint64_t here) {
  const std::uint64_t most =
      limit.hard == Limit::kNone ? limit.hard : limit.hard - std::min(limit.hard, at_home);
  const std::uint64_t soft = std::min(limit.soft, most);
  return {soft == Limit::kNone ? soft : sum(soft, here), Limit::kNone};
}

/// The soft limit alone: nobody asks the body for the others, and of this node's own none is
/// raised.
Status set_soft(pid_t pid, __rlimit_resource resource, std::uint64_t soft) {
  rlimit64 limit{};
  if (prlimit64(pid, resource, nullptr, &limit) == 0) {
    limit.rlim_cur = std::min<rlim64_t>(soft, limit.rlim_max);
    if (prlimit64(pid, resource, &limit, nullptr) == 0) return {};
  }
  return errno == ESRCH ? Status{} : Status(errno_error("limit the body"));
}

}  // namespace

MemoryLimits limits_of_body(const MemoryLimits& at_home, const Scratch& scratch) {
  const std::uint64_t to_come_home = Scratch::least_size_for(scratch.threads());
  MemoryLimits here;
  here.address_space = with_ours(at_home.address_space, to_come_home, scratch.range().size());
  // Of the mapping, the body can write to the room of one thread.
  here.data = with_ours(at_home.data, to_come_home, Scratch::size_for(1) - kPageSize);
  here.stack = {at_home.stack.soft, Limit::kNone};
  return here;
}

Status limit_body(Body& body, const MemoryLimits& at_home) {
  body.limits = at_home;
  const MemoryLimits here = limits_of_body(at_home, body.scratch);
  DROVER_CHECK(set_soft(body.pid, RLIMIT_AS, here.address_space.soft));
  DROVER_CHECK(set_soft(body.pid, RLIMIT_DATA, here.data.soft));
  return set_soft(body.pid, RLIMIT_STACK, here.stack.soft);
}

}  // namespace drover
