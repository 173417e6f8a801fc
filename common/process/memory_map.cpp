#include "common/process/memory_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include <array>
#include <charconv>
#include <optional>

namespace drover {

namespace {

constexpr std::string_view kDeletedSuffix = " (deleted)";
constexpr std::string_view kEscapedNewline = "\\012";

std::string_view next_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

/// Takes one number off the front of `rest`; the character after it must be `after`.
bool take_number(std::string_view& rest, int base, char after, std::uint64_t& value) {
  const char* const begin = rest.data();
  const char* const end = begin + rest.size();
  const auto [stop, error] = std::from_chars(begin, end, value, base);
  if (error != std::errc() || stop == begin || stop == end || *stop != after) return false;
  rest.remove_prefix(static_cast<std::size_t>(stop - begin) + 1);
  return true;
}

bool take_permissions(std::string_view& rest, MemoryArea& area) {
  if (rest.size() < 5 || rest[4] != ' ') return false;
  const auto bit = [&](std::size_t at, char letter, int protection) {
    if (rest[at] == letter) area.protection |= protection;
    return rest[at] == letter || rest[at] == '-';
  };
  if (!bit(0, 'r', PROT_READ) || !bit(1, 'w', PROT_WRITE) || !bit(2, 'x', PROT_EXEC)) return false;
  if (rest[3] != 's' && rest[3] != 'p') return false;
  area.shared = rest[3] == 's';
  rest.remove_prefix(5);
  return true;
}

void set_name(std::string_view shown, MemoryArea& area) {
  if (area.file_backed() && shown.ends_with(kDeletedSuffix)) {
    area.deleted = true;
    shown.remove_suffix(kDeletedSuffix.size());
  }
  std::size_t escape;
  while ((escape = shown.find(kEscapedNewline)) != std::string_view::npos) {
    area.name.append(shown.substr(0, escape)).push_back('\n');
    shown.remove_prefix(escape + kEscapedNewline.size());
  }
  area.name.append(shown);
}

/// A line of maps, or nothing if it is none.
std::optional<MemoryArea> parse_header(std::string_view line) {
  MemoryArea area;
  std::uint64_t start = 0, end = 0, major = 0, minor = 0;
  if (!take_number(line, 16, '-', start) || !take_number(line, 16, ' ', end) || start >= end ||
      !take_permissions(line, area) || !take_number(line, 16, ' ', area.file_offset) ||
      !take_number(line, 16, ':', major) || !take_number(line, 16, ' ', minor)) {
    return std::nullopt;
  }
  // The kernel ends a line without a name right behind the inode or with a space, by version.
  const auto [stop, error] =
      std::from_chars(line.data(), line.data() + line.size(), area.inode, 10);
  if (error != std::errc()) return std::nullopt;
  line.remove_prefix(static_cast<std::size_t>(stop - line.data()));
  if (!line.empty() && line.front() != ' ') return std::nullopt;
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  area.range = {ForeignAddress(start), ForeignAddress(end)};
  area.device = makedev(major, minor);
  set_name(line, area);
  return area;
}

struct FlagName {
  std::string_view letters;
  bool AreaFlags::*member;
};
constexpr std::array kFlagNames = {
    FlagName{"mr", &AreaFlags::may_read},     FlagName{"mw", &AreaFlags::may_write},
    FlagName{"me", &AreaFlags::may_exec},     FlagName{"ms", &AreaFlags::may_share},
    FlagName{"gd", &AreaFlags::grows_down},   FlagName{"dc", &AreaFlags::dont_fork},
    FlagName{"de", &AreaFlags::dont_expand},  FlagName{"dd", &AreaFlags::dont_dump},
    FlagName{"wf", &AreaFlags::wipe_on_fork}, FlagName{"hg", &AreaFlags::huge},
    FlagName{"nh", &AreaFlags::no_huge},      FlagName{"mg", &AreaFlags::mergeable},
    FlagName{"sr", &AreaFlags::sequential},   FlagName{"rr", &AreaFlags::random},
    FlagName{"lo", &AreaFlags::locked},       FlagName{"lf", &AreaFlags::lock_on_fault},
    FlagName{"nr", &AreaFlags::no_reserve},   FlagName{"ac", &AreaFlags::account},
    FlagName{"sf", &AreaFlags::sync_fault},   FlagName{"ht", &AreaFlags::hugetlb},
    FlagName{"pf", &AreaFlags::pfn_map},      FlagName{"mm", &AreaFlags::mixed_map},
    FlagName{"io", &AreaFlags::io},           FlagName{"ss", &AreaFlags::shadow_stack},
    FlagName{"um", &AreaFlags::userfault},    FlagName{"uw", &AreaFlags::userfault},
    FlagName{"ui", &AreaFlags::userfault},    FlagName{"dp", &AreaFlags::droppable},
    FlagName{"sl", &AreaFlags::sealed},       FlagName{"gu", &AreaFlags::guarded},
};
/// Said by the permissions already (rd, wr, ex, sh), or no property of the mapping (sd, the
/// soft-dirty mark).
constexpr std::array<std::string_view, 5> kIgnoredFlags = {"rd", "wr", "ex", "sh", "sd"};

AreaFlags parse_flags(std::string_view words) {
  AreaFlags flags;
  while (true) {
    words.remove_prefix(std::min(words.find_first_not_of(' '), words.size()));
    if (words.empty()) return flags;
    const std::string_view word = words.substr(0, words.find(' '));
    words.remove_prefix(word.size());
    bool known = false;
    for (const FlagName& name : kFlagNames) {
      if (name.letters == word) flags.*name.member = known = true;
    }
    for (const std::string_view ignored : kIgnoredFlags) known = known || ignored == word;
    if (!known) flags.unknown.append(flags.unknown.empty() ? "" : " ").append(word);
  }
}

Error malformed(const char* file, std::string_view line) {
  return refusal(std::string(file) + ": not a line of it: '" + std::string(line.substr(0, 80)) +
                 "'");
}

Status check_order(const char* file, const std::vector<MemoryArea>& areas, const MemoryArea& next) {
  if (areas.empty() || areas.back().range.end <= next.range.start) return {};
  return refusal(std::string(file) + ": areas overlap or are out of order");
}

}  // namespace

bool MemoryArea::special() const {
  return !file_backed() && (name == "[vdso]" || name.starts_with("[vvar") || name == "[vsyscall]" ||
                            name == "[uprobes]");
}

Result<std::vector<MemoryArea>> parse_maps(std::string_view text) {
  std::vector<MemoryArea> areas;
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    std::optional<MemoryArea> area = parse_header(line);
    if (!area) return malformed("maps", line);
    DROVER_CHECK(check_order("maps", areas, *area));
    areas.push_back(std::move(*area));
  }
  return areas;
}

Result<std::vector<MemoryArea>> parse_smaps(std::string_view text) {
  constexpr std::string_view kVmFlags = "VmFlags:";
  constexpr std::string_view kProtectionKey = "ProtectionKey:";
  std::vector<MemoryArea> areas;
  bool flags_seen = true;
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    if (std::optional<MemoryArea> area = parse_header(line)) {
      if (!flags_seen) return refusal("smaps: an area without VmFlags");
      DROVER_CHECK(check_order("smaps", areas, *area));
      areas.push_back(std::move(*area));
      flags_seen = false;
    } else if (areas.empty() || line.find(':') == std::string_view::npos) {
      return malformed("smaps", line);
    } else if (line.starts_with(kVmFlags)) {
      areas.back().flags = parse_flags(line.substr(kVmFlags.size()));
      flags_seen = true;
    } else if (line.starts_with(kProtectionKey)) {
      const std::string_view rest = line.substr(kProtectionKey.size());
      const std::size_t digits = std::min(rest.find_first_not_of(' '), rest.size());
      std::from_chars(rest.data() + digits, rest.data() + rest.size(), areas.back().protection_key);
    }
  }
  if (!flags_seen) return refusal("smaps: an area without VmFlags");
  return areas;
}

Result<ForeignRange> find_vdso(const std::vector<MemoryArea>& areas) {
  for (const MemoryArea& area : areas) {
    if (area.name == "[vdso]") return area.range;
  }
  return refusal("it has no vDSO");
}

Result<std::string> read_proc_file(const OwnedFd& file) {
  // Proc files have no size; the kernel gives at most what its own buffer holds at a time.
  constexpr std::size_t kStep = 64 * 1024;
  std::string text;
  while (true) {
    const std::size_t have = text.size();
    text.resize(have + kStep);
    const ssize_t n = pread(file.get(), text.data() + have, kStep, static_cast<off_t>(have));
    const int error = errno;
    text.resize(have + (n > 0 ? static_cast<std::size_t>(n) : 0));
    if (n == 0) return text;
    if (n < 0 && error != EINTR) return Error{error, "read proc file"};
  }
}

Result<std::string> read_proc_file(const std::string& path) {
  const OwnedFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return errno_error("open " + path);
  auto text = read_proc_file(file);
  if (!text) return Error{text.error().code, "read " + path};
  return text;
}

Result<std::string> read_proc_file(const OwnedFd& directory, const std::string& name) {
  const OwnedFd file(openat(directory.get(), name.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return errno_error("open " + name);
  auto text = read_proc_file(file);
  if (!text) return Error{text.error().code, "read " + name};
  return text;
}

}  // namespace drover
