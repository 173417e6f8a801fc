// Pages of memory on a data channel.
#pragma once

#include <functional>

#include "common/process/foreign_memory.h"
#include "common/process/page_map.h"
#include "common/secure_channel.h"
#include "migrate/image.h"

namespace drover {

/// Called again and again during long work, so that others hear that it goes on.
using SignOfLife = std::function<Status()>;

/// Sends the pages of these areas that hold content of the process's own, and all of `also`.
/// Gives the bytes of memory sent.
Result<std::uint64_t> send_pages(SecureChannel& channel, const ForeignMemory& memory,
                                 const PageMap& pages, const std::vector<Area>& areas,
                                 const std::vector<ForeignRange>& also = {},
                                 const SignOfLife& alive = {});

/// Writes the pages of one kPages frame. `allowed` is where pages may go: the areas of the
/// layout; anything else is refused.
Result<std::uint64_t> receive_pages(const ForeignMemory& memory, const std::vector<Area>& allowed,
                                    ByteView frame);

}  // namespace drover
