#include "migrate/admission.h"

#include <elf.h>
#include <fmt/format.h>
#include <link.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <sstream>

#include "common/sha256.h"
#include "migrate/cpu_features.h"
#include "migrate/messages.h"

namespace drover {
namespace {

// A node that is filled to the last page thrashes or kills.
constexpr std::uint64_t kMemoryReserve = 64 << 20;

/// How many ids a list like "0-3,8-11" allows for: the highest and one.
std::uint32_t possible_ids(const char* path) {
  std::ifstream file(path);
  std::string text;
  std::getline(file, text);
  const std::size_t last = text.find_last_of(",-");
  std::istringstream number(last == std::string::npos ? text : text.substr(last + 1));
  std::uint32_t highest = 0;
  return number >> highest ? highest + 1 : 1;
}

/// What names a vDSO's build: its notes (the build id is one) and its size. Not its bytes: the
/// kernel patches them for the CPU, without moving anything.
std::string vdso_identity() {
  const std::uint64_t base = ::getauxval(AT_SYSINFO_EHDR);
  if (base == 0) return "";
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(base);
  const auto* segments = reinterpret_cast<const ElfW(Phdr)*>(base + header->e_phoff);
  Sha256 hash;
  for (int i = 0; i < header->e_phnum; ++i) {
    const ElfW(Phdr)& segment = segments[i];
    if (segment.p_type == PT_LOAD)
      hash.update({reinterpret_cast<const std::byte*>(&segment.p_memsz), sizeof segment.p_memsz});
    if (segment.p_type == PT_NOTE)
      hash.update({reinterpret_cast<const std::byte*>(base + segment.p_offset), segment.p_filesz});
  }
  return to_field(hash.finish());
}

std::string join(const std::vector<std::string>& words, std::size_t most) {
  std::string text;
  for (std::size_t i = 0; i < std::min(words.size(), most); ++i) text += (i ? ", " : "") + words[i];
  if (words.size() > most) text += fmt::format(" and {} more", words.size() - most);
  return text;
}

Status check_machine(const peer::Machine& home, const peer::Machine& own) {
  const auto words_of = [](const peer::Machine& machine) {
    std::vector<CpuWord> words;
    for (const peer::CpuWord& word : machine.cpu())
      words.push_back({word.leaf(), word.subleaf(), word.reg(), word.bits()});
    return words;
  };
  const auto missing = missing_cpu_features(words_of(home), words_of(own));
  if (!missing.empty())
    return refusal("has a CPU without what the home node's has: " + join(missing, 8));
  if (home.page_size() != own.page_size())
    return refusal(fmt::format("has pages of {} bytes, the home node of {}", own.page_size(),
                               home.page_size()));
  if (home.vdso_identity() != own.vdso_identity())
    return refusal(fmt::format("has a kernel ({}) with another vDSO than the home node's ({})",
                               own.kernel(), home.kernel()));
  return {};
}

bool contains(const std::vector<std::string>& list, const std::string& name) {
  return std::ranges::find(list, name) != list.end();
}

}  // namespace

peer::Machine own_machine() {
  peer::Machine machine;
  for (const CpuWord& word : own_cpu_features()) {
    peer::CpuWord& out = *machine.add_cpu();
    out.set_leaf(word.leaf);
    out.set_subleaf(word.subleaf);
    out.set_reg(word.reg);
    out.set_bits(word.bits);
  }
  machine.set_page_size(static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE)));
  machine.set_possible_cpus(possible_ids("/sys/devices/system/cpu/possible"));
  machine.set_possible_memory_nodes(possible_ids("/sys/devices/system/node/possible"));
  utsname names{};
  ::uname(&names);
  machine.set_kernel(names.release);
  machine.set_vdso_identity(vdso_identity());
  return machine;
}

Result<HostState> read_host_state() {
  HostState state;
  std::ifstream pid_max("/proc/sys/kernel/pid_max");
  if (!(pid_max >> state.pid_max)) return refusal("/proc/sys/kernel/pid_max: cannot be read");
  std::ifstream memory("/proc/meminfo");
  for (std::string word; memory >> word;)
    if (word == "MemAvailable:" && memory >> state.available_memory) {
      state.available_memory <<= 10;
      break;
    }
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) < 0) return errno_error("affinity");
  while (state.lowest_cpu + 1 < CPU_SETSIZE && !CPU_ISSET(state.lowest_cpu, &allowed))
    ++state.lowest_cpu;
  return state;
}

Status admit_body(const peer::PrepareBody& body, const Member& from, const HostPolicy& policy,
                  const HostState& state, const peer::Machine& own) {
  if (!contains(policy.guest_zones, from.zone))
    return refusal("takes no guests from the zone " + from.zone);
  if (policy.block) return refusal("is blocked: it takes no guests");
  if (state.guests >= policy.max_guests)
    return refusal(fmt::format("has {} guests already, its most", state.guests));
  if (body.pid() >= state.pid_max)
    return refusal(fmt::format("has pids below {} only (kernel.pid_max)", state.pid_max));
  if (body.memory_bytes() > state.available_memory ||
      state.available_memory - body.memory_bytes() < kMemoryReserve)
    return refusal(fmt::format("has too little memory: {} MB available, {} MB needed",
                               state.available_memory >> 20, body.memory_bytes() >> 20));
  if (state.lowest_cpu >= body.home().possible_cpus())
    return refusal(fmt::format("may run guests from CPU {} on, the home node has {} CPUs at most",
                               state.lowest_cpu, body.home().possible_cpus()));
  return check_machine(body.home(), own);
}

std::chrono::nanoseconds least_clock_skew(std::chrono::nanoseconds asked,
                                          std::chrono::nanoseconds theirs,
                                          std::chrono::nanoseconds answered) {
  if (theirs < asked) return asked - theirs;
  if (theirs > answered) return theirs - answered;
  return std::chrono::nanoseconds::zero();
}

std::chrono::nanoseconds wall_clock() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

}  // namespace drover
