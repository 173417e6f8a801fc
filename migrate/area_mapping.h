// Mappings as an image describes them, made inside a stopped process (mmap(2), madvise(2)).
#pragma once

#include "common/process/injection.h"
#include "common/process/memory_map.h"
#include "migrate/image.h"

namespace drover {

/// Maps the whole area, with the advice that it had: anonymous memory, or with `fd` >= 0 (a
/// descriptor of the process) a mapping of that file from the area's content offset, shared if the
/// area was: then the descriptor must be read-only.
/// Fails if anything is mapped there.
Status map_area(Injection& injection, const Area& area, std::int64_t fd);

/// Makes a mapping of other advice or protection, as `have` says, into the area.
Status change_area(Injection& injection, const MemoryArea& have, const Area& area);

}  // namespace drover
