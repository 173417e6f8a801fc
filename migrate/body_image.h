// The image of a process at its remote end: taken from a channel and built into a body, or
// taken from a body and sent on.
#pragma once

#include <optional>

#include "common/secure_channel.h"
#include "migrate/body_builder.h"
#include "migrate/hosted_contents.h"
#include "migrate/image.h"
#include "migrate/page_stream.h"
#include "migrate/sandbox.h"
#include "remote-syscall/body_supervisor.h"

namespace drover {

/// What a guest has of a process besides the body itself: what the next move needs.
struct HostedImage {
  Identity identity;
  HostedContents contents;
  MappedContents mapped;
  MemoryFields memory;
  Bytes auxiliary_vector;
  std::uint64_t personality = 0;
  std::uint64_t extended_permission = 0;
  std::uint64_t membarrier = 0;
  SignalsOfThreads undelivered;  // when the image was taken
  std::optional<CpuAccount> cpu;
  bool cpu_was_told = false;
  CpuAccounts threads_cpu;
};

/// Ids and place of the body, as migrated gave them.
struct Hosting {
  std::uint32_t job_uid = 0;
  std::uint32_t job_gid = 0;
  std::uint32_t outer_uid = 0;
  std::string guest_root;   ///< see enter_guest_root
  ClockReading home_ahead;  ///< what is to be added to our clocks to have home's
};

/// Puts a body together from the frames of an image, in their order.
class ImageReceiver {
 public:
  /// `store` outlives this.
  ImageReceiver(const Hosting& hosting, ContentStore& store)
      : hosting_(hosting), contents_(store) {}

  /// Takes a frame; answers to it go out on `channel`. True when the image is complete.
  Result<bool> on_frame(const Frame& frame, SecureChannel& channel);

  /// The finished body, once. It waits for `BodySupervisor::run`.
  Result<Body> take_body();
  HostedImage& hosted() { return hosted_; }
  Sandbox take_sandbox() { return std::move(*sandbox_); }
  std::uint64_t page_bytes() const { return page_bytes_; }

 private:
  Status on_identity(const Identity& identity);
  Status on_layout(Layout layout);
  Status on_state(ProcessState state);
  /// How far the process's clock is ahead of what it would be here, in nanoseconds.
  std::int64_t ahead_of_clock(const ProcessState& state) const;
  Status wait_for_clock() const;

  Hosting hosting_;
  ContentReceiver contents_;
  HostedImage hosted_;
  std::optional<Sandbox> sandbox_;
  std::optional<BodyBuilder> builder_;
  std::optional<Layout> layout_;
  std::optional<ProcessState> state_;
  std::uint64_t page_bytes_ = 0;
};

/// Sends the image of a frozen body. With `with_contents`, identity and file contents too: for
/// another guest; home has those.
Result<std::uint64_t> send_body_image(SecureChannel& channel, Body& body, const HostedImage& hosted,
                                      const SignalsOfThreads& undelivered, bool with_contents,
                                      const SignOfLife& alive = {});

}  // namespace drover
