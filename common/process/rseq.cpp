#include "common/process/rseq.h"

namespace drover {
namespace {

struct CriticalSection {  // struct rseq_cs
  std::uint32_t version;
  std::uint32_t flags;
  std::uint64_t start_ip;
  std::uint64_t post_commit_offset;
  std::uint64_t abort_ip;
};
constexpr std::uint64_t kSectionPointerOffset = 8;  // of struct rseq: after cpu_id_start, cpu_id

}  // namespace

Status abort_rseq_section(const TracedThread& thread, const ForeignMemory& memory,
                          const RseqRegistration& registration) {
  if (registration.pointer == 0) return {};
  const ForeignAddress pointer_at(registration.pointer + kSectionPointerOffset);
  DROVER_TRY(const auto section_at, memory.read_record<std::uint64_t>(pointer_at));
  if (section_at == 0) return {};
  DROVER_TRY(const auto section, memory.read_record<CriticalSection>(ForeignAddress(section_at)));
  DROVER_TRY(Registers r, thread.registers());
  if (r.rip - section.start_ip < section.post_commit_offset) {
    r.rip = section.abort_ip;
    DROVER_CHECK(thread.set_registers(r));
  }
  return memory.write_record(pointer_at, std::uint64_t{0});
}

}  // namespace drover
