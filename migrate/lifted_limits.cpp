#include "migrate/lifted_limits.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>

#include "migrate/capture.h"

namespace drover {
namespace {

/// A stack may have grown before its limit was lowered.
bool are_in_the_way(const MemoryLimits& limits, const Layout& layout) {
  return limits.address_space.soft != Limit::kNone || limits.data.soft != Limit::kNone ||
         std::ranges::any_of(layout.areas, [&](const Area& area) {
           return area.kind == AreaKind::kStack && area.range.size() > limits.stack.soft;
         });
}

/// Those that no process without privileges gets rid of.
bool counts_whatever_is_done(const MemoryLimits& limits) {
  return limits.address_space.hard != Limit::kNone || limits.data.hard != Limit::kNone;
}

/// What of a thread's room is cut off.
ForeignRange spare_room(const Scratch& scratch, std::size_t thread) {
  const ForeignAddress room = scratch.of_thread(thread).data();
  return {room + Scratch::kOwnDataSize, room + Scratch::kDataSize};
}

/// The heap is brk's, which finds it again only as it was.
bool is_wanted(const MemoryArea& area, const Layout& layout) {
  return area.name == "[heap]" || std::ranges::any_of(layout.areas, [&](const Area& want) {
           return want.range.overlaps(area.range);
         });
}

Status unmap(Injection& injection, ForeignRange range) {
  const auto unmapped = injection.call("munmap", SYS_munmap, {range.start.value(), range.size()});
  return unmapped ? Status{} : Status(unmapped.error());
}

}  // namespace

Status LiftedLimits::lift(const Layout& layout, ForeignRange kept) {
  DROVER_TRY(const MemoryLimits limits, memory_limits_of(memory_->pid()));
  if (before_ || !are_in_the_way(limits, layout)) return {};
  before_ = limits;
  DROVER_TRY(Injection injection, Injection::trapping(thread_->thread(), thread_->scratch()));
  MemoryLimits lifted = limits;
  lifted.address_space.soft = limits.address_space.hard;
  lifted.data.soft = limits.data.hard;
  lifted.stack.soft = limits.stack.hard;
  DROVER_CHECK(set(injection, lifted));
  if (counts_whatever_is_done(limits)) DROVER_CHECK(cut_down(injection, layout, kept));
  return injection.end();
}

Status LiftedLimits::set(Injection& injection, const MemoryLimits& limits) const {
  const std::pair<std::uint64_t, Limit> all[] = {
      {RLIMIT_AS, limits.address_space}, {RLIMIT_DATA, limits.data}, {RLIMIT_STACK, limits.stack}};
  const ForeignAddress at = thread_->scratch().data();
  for (const auto& [resource, limit] : all) {
    DROVER_CHECK(memory_->write_record(at, rlimit64{limit.soft, limit.hard}));
    DROVER_CHECK(injection.call("prlimit64", SYS_prlimit64, {0, resource, at.value(), 0}));
  }
  return {};
}

Status LiftedLimits::cut_down(Injection& injection, const Layout& layout, ForeignRange kept) {
  cut_down_ = true;
  const Scratch& scratch = thread_->scratch();
  for (std::size_t i = 0; i < scratch.threads(); ++i) {
    DROVER_CHECK(unmap(injection, spare_room(scratch, i)));
  }
  DROVER_TRY(auto areas, read_memory_areas(memory_->pid()));
  for (const MemoryArea& area : without(std::move(areas), scratch.range())) {
    if (area.special() || area.range.overlaps(kept) || is_wanted(area, layout)) continue;
    DROVER_CHECK(unmap(injection, area.range));
  }
  return {};
}

Status LiftedLimits::put_back() {
  if (!before_) return {};
  DROVER_TRY(Injection injection, Injection::trapping(thread_->thread(), thread_->scratch()));
  DROVER_CHECK(set(injection, *before_));
  before_.reset();
  return injection.end();
}

Status LiftedLimits::undo() {
  if (!before_) return {};
  if (cut_down_) {
    DROVER_TRY(Injection injection, Injection::trapping(thread_->thread(), thread_->scratch()));
    Status grown = grow_again(injection);
    if (!grown) {
      DROVER_CHECK(unmap_program(injection));
      grown = grow_again(injection);
    }
    if (!grown) return grown;
    cut_down_ = false;
    DROVER_CHECK(injection.end());
  }
  return put_back();
}

Status LiftedLimits::grow_again(Injection& injection) const {
  const Scratch& scratch = thread_->scratch();
  for (std::size_t i = 0; i < scratch.threads(); ++i) {
    const ForeignRange room = spare_room(scratch, i);
    DROVER_CHECK(injection.call("mmap", SYS_mmap,
                                {room.start.value(), room.size(), PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                                 static_cast<std::uint64_t>(-1), 0}));
  }
  return {};
}

// What of its memory is there is worth nothing as long as it is away, but for mappings of files,
// which are found again, and stack and heap, which only grow.
Status LiftedLimits::unmap_program(Injection& injection) const {
  DROVER_TRY(auto areas, read_memory_areas(memory_->pid()));
  for (const MemoryArea& area : without(std::move(areas), thread_->scratch().range())) {
    if (!area.anonymous() || area.flags.grows_down || area.name == "[heap]") continue;
    DROVER_CHECK(unmap(injection, area.range));
  }
  return {};
}

}  // namespace drover
