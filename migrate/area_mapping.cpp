#include "migrate/area_mapping.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include "migrate/capture.h"

namespace drover {
namespace {

constexpr int kMapDroppable = 0x08;
constexpr int kNoOpposite = -1;

struct Advice {
  std::uint32_t flag;
  int advice;
  int opposite;
};
constexpr Advice kAdvice[] = {{Area::kDontFork, MADV_DONTFORK, MADV_DOFORK},
                              {Area::kWipeOnFork, MADV_WIPEONFORK, MADV_KEEPONFORK},
                              {Area::kDontDump, MADV_DONTDUMP, MADV_DODUMP},
                              {Area::kHugePage, MADV_HUGEPAGE, kNoOpposite},
                              {Area::kNoHugePage, MADV_NOHUGEPAGE, kNoOpposite}};

/// Gives a mapping that has the flags `have` those of the area.
Status advise(Injection& injection, const Area& area, std::uint32_t have) {
  for (const Advice& a : kAdvice) {
    const bool is = (have & a.flag) != 0, wanted = (area.flags & a.flag) != 0;
    const int advice = wanted ? a.advice : a.opposite;
    if (is == wanted || advice == kNoOpposite) continue;
    DROVER_CHECK(injection.call(
        "madvise", SYS_madvise,
        {area.range.start.value(), area.range.size(), static_cast<std::uint64_t>(advice)}));
  }
  return {};
}

}  // namespace

Status map_area(Injection& injection, const Area& area, std::int64_t fd) {
  // Without a file: it is known by that for what is to be written back.
  const bool shared = (area.flags & Area::kWasShared) != 0;
  std::uint64_t flags = MAP_FIXED_NOREPLACE | (shared ? MAP_SHARED : MAP_PRIVATE);
  if (fd < 0) flags |= MAP_ANONYMOUS;
  if (area.kind == AreaKind::kStack) flags |= MAP_GROWSDOWN;
  if ((area.flags & Area::kNoReserve) != 0) flags |= MAP_NORESERVE;
  if ((area.flags & Area::kDroppable) != 0) flags = (flags & ~MAP_PRIVATE) | kMapDroppable;
  DROVER_CHECK(injection.call("mmap", SYS_mmap,
                              {area.range.start.value(), area.range.size(), area.protection, flags,
                               static_cast<std::uint64_t>(fd), area.content_offset}));
  return advise(injection, area, 0);
}

Status change_area(Injection& injection, const MemoryArea& have, const Area& area) {
  DROVER_CHECK(advise(injection, area, area_flags(have)));
  if (static_cast<std::uint32_t>(have.protection) == area.protection) return {};
  const auto changed = injection.call(
      "mprotect", SYS_mprotect, {area.range.start.value(), area.range.size(), area.protection});
  return changed ? Status{} : Status(changed.error());
}

}  // namespace drover
