// The body's seccomp filter, made from the system call table.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <vector>

#include "common/foreign_address.h"

namespace drover {

/// The filter of the process `pid` (as it sees itself): SECCOMP_RET_ALLOW for what the table
/// calls local, SECCOMP_RET_USER_NOTIF for everything else: other classes, unknown numbers,
/// x32 and 32-bit calls. Where `ours` is the instruction pointer, clone3(2) and close(2) are
/// allowed too: those the guest makes the body execute. See
/// Documentation/userspace-api/seccomp_filter.rst.
std::vector<sock_filter> build_filter(std::int32_t pid, ForeignAddress ours);

}  // namespace drover
