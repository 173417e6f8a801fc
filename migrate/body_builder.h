// Building a body out of a blank process: its memory, its state, its filter. All by calls
// injected into the blank, so that the body is a process like any other afterwards.
#pragma once

#include <map>
#include <set>

#include "common/process/injection.h"
#include "migrate/image.h"
#include "migrate/sandbox.h"
#include "remote-syscall/body.h"

namespace drover {

/// Which content each file mapping of a body shows. Filled in by the builder; asked when the
/// body moves on.
class MappedContents {
 public:
  void add(std::uint64_t device, std::uint64_t inode, std::uint32_t index) {
    by_file_[{device, inode}] = index;
  }
  std::optional<std::uint32_t> find(std::uint64_t device, std::uint64_t inode) const {
    const auto it = by_file_.find({device, inode});
    return it == by_file_.end() ? std::nullopt : std::optional(it->second);
  }

 private:
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint32_t> by_file_;
};

class BodyBuilder {
 public:
  /// Takes the blank over: it is stopped from here on, and dies with us.
  static Result<BodyBuilder> over(Sandbox::Blank blank);

  /// Empties the blank and gives it the areas of the layout. `contents` are the open files that
  /// hold the contents, by index.
  Status lay_out(const Layout& layout, const std::vector<OwnedFd>& contents);
  /// The memory that pages are to be written to.
  const ForeignMemory& memory() const { return body_.memory; }
  /// Everything but registers: signal actions, memory fields, per-thread registrations, and
  /// last the filter. `possible_cpus` bounds the CPU ids the body may see.
  Status load(const ProcessState& state, const Identity& identity);
  /// The body, stopped, ready to run from where the process was stopped.
  Result<Body> finish(const ProcessState& state);

  const MappedContents& mapped() const { return mapped_; }

 private:
  explicit BodyBuilder(Sandbox::Blank blank);
  Status empty_out(const Layout& layout);
  Status place_specials(const Layout& layout, ForeignRange hole);
  Status map_areas(const Layout& layout, const std::vector<OwnedFd>& contents);
  Status note_mappings(const Layout& layout);
  Result<std::int64_t> receive_fd(Injection& injection, const OwnedFd& fd);
  Status load_process(Injection& injection, const ProcessState& state);
  Status make_threads(const ProcessState& state);
  Status make_thread(std::int32_t home_tid);
  Status load_thread(const BodyThread& thread, const ThreadState& state);
  const TracedThread& leader() const { return body_.leader().thread; }
  Status confine_cpus(std::uint32_t possible_cpus);
  Status install_filter();

  Sandbox::Blank blank_;
  Body body_;
  ForeignAddress gate_;  // a page of code outside of everything, until the scratch stands
  MappedContents mapped_;
};

}  // namespace drover
