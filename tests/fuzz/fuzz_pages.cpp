// Pages from a peer that lies about where they belong: they are written nowhere but in the areas.
// The first two bytes say which of sixteen pages are areas, the third what the frame is: the rest
// of the input, or as many pages as it says, addressed near the areas.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "migrate/page_stream.h"

using namespace drover;

namespace {

constexpr std::uint64_t kPages = 16;
constexpr unsigned char kBefore = 0xa5;

void require(bool held) {
  if (!held) std::abort();
}

/// Our own memory plays the process's.
std::span<std::byte> arena() {
  constexpr std::size_t kSize = kPages * kPageSize;
  static void* const at =
      mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return {static_cast<std::byte*>(at), kSize};
}

ForeignAddress address_of(std::uint64_t page) {
  return ForeignAddress(reinterpret_cast<std::uint64_t>(arena().data()) + page * kPageSize);
}

std::vector<Area> areas_of(unsigned allowed) {
  std::vector<Area> areas;
  for (std::uint64_t page = 0; page < kPages; ++page) {
    if ((allowed >> page & 1) == 0) continue;
    Area area;
    area.range = {address_of(page), address_of(page + 1)};
    areas.push_back(area);
  }
  return areas;
}

/// Three bytes: the page, what is added to its address, and how many half pages follow.
Bytes frame_near(ByteView how) {
  const auto number = [&](std::size_t i) { return std::to_integer<std::uint64_t>(how[i]); };
  const std::uint64_t address = (address_of(number(0)) - kPageSize).value() + number(1);
  WireWriter w;
  w.record(PagesHead{address});
  w.raw(Bytes(number(2) * (kPageSize / 2), std::byte{1}));
  return w.take();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const unsigned allowed = data[0] | data[1] << 8U;
  const ByteView rest(reinterpret_cast<const std::byte*>(data) + 3, size - 3);
  if (data[2] % 2 != 0 && rest.size() < 3) return 0;
  const Bytes frame = data[2] % 2 != 0 ? frame_near(rest) : Bytes(rest.begin(), rest.end());

  // In one go: the fuzzer watches each turn of a loop of ours.
  std::memset(arena().data(), kBefore, arena().size());
  const ForeignMemory memory(getpid(), OwnedFd{});
  const auto written = receive_pages(memory, areas_of(allowed), frame);
  static const Bytes untouched(kPageSize, std::byte{kBefore});
  std::uint64_t changed = 0;
  for (std::uint64_t page = 0; page < kPages; ++page) {
    const auto bytes = arena().subspan(page * kPageSize, kPageSize);
    if (std::memcmp(bytes.data(), untouched.data(), kPageSize) == 0) continue;
    require((allowed >> page & 1) != 0);
    changed += kPageSize;
  }
  require(changed <= (written ? *written : 0));
  return 0;
}
