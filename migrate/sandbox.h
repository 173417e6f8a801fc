// The place where bodies live on a remote node: namespaces in which there is nothing.
//
// A sandbox is a user, pid, mount, network, IPC, UTS, cgroup and time namespace of its own, with
// an empty read-only root, no network, the home's host name and clocks, held by an init process
// that does nothing but make blanks for the guest and wait. A blank is a process with P's pid
// that pauses until the guest has built a body in it. See user_namespaces(7), pid_namespaces(7),
// time_namespaces(7), pivot_root(2).
//
// Used by the single-threaded `guest`, which runs as the throwaway uid `outer_uid` with effective
// CAP_SETUID, CAP_SETGID and CAP_SYS_CHROOT (enter_guest_identity) until `confine_self`; after that
// it may still make blanks and trace them, because it owns the user namespace.
//
// Init and blanks are copies of the guest (no exec): whatever is in the guest's memory at `create`
// stays readable in theirs. So make the sandbox before a channel is opened, or wipe key material
// first. A blank's copied memory is gone once the guest has unmapped it for the body.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "common/owned_fd.h"
#include "common/result.h"

namespace drover {

struct SandboxSpec {
  /// The job's ids, as seen inside.
  std::uint32_t job_uid = 0, job_gid = 0;
  /// The guest's own uid and gid outside, which bodies have as well; init has the next one.
  std::uint32_t outer_uid = 0;
  std::string host_name, domain_name;  ///< of home; at most 64 bytes each
  /// What home's clocks are ahead of this node's, CLOCK_MONOTONIC and CLOCK_BOOTTIME. They cannot
  /// be changed afterwards.
  std::int64_t monotonic_offset_ns = 0, boottime_offset_ns = 0;
};

class Sandbox {
 public:
  /// The descriptor inside a blank at which it holds the other end of Blank::socket, and the only
  /// one that it has. (The last that fits the kernel's smallest descriptor table.)
  static constexpr int kBlankSocket = 63;

  /// A process of the sandbox, and what the guest may not open by itself.
  struct Process {
    pid_t pid = 0;         ///< as the guest sees it
    pid_t pid_inside = 0;  ///< as it sees itself
    OwnedFd pidfd;
    OwnedFd pagemap;  ///< for PageMap
    OwnedFd mem;      ///< read and write, also pages that the process may not write
  };
  struct Blank : Process {
    /// Unix SOCK_SEQPACKET pair to kBlankSocket.
    OwnedFd socket;
    /// Sends a copy of `fd` with one byte of data; the guest injects the recvmsg that takes it.
    Status pass(const OwnedFd& fd) const;
  };

  /// Makes the namespaces and init. The caller's uid and gid must be `outer_uid`.
  static Result<Sandbox> create(const SandboxSpec& spec);

  /// A new process with that pid inside (EEXIST if it is taken). It waits in pause(2) with all
  /// signals default and unblocked, the job's ids, no supplementary groups, no_new_privs,
  /// dumpable, without descriptors but kBlankSocket, child of init. It may never dump core. Its
  /// one capability is CAP_CHECKPOINT_RESTORE in the sandbox's user namespace, which lets its
  /// forks and threads be given their pids by clone3 set_tid.
  Result<Blank> make_blank(pid_t pid_inside);

  /// The same descriptors for a process that came to be by a fork inside.
  Result<Process> open_process(pid_t pid_inside);

  /// Every process of the sandbox is in this process group, as the guest sees it, so that
  /// waitpid(-group, ..., __WALL) is about this sandbox alone. (setpgid and setsid must never be
  /// executed in a body; they belong to P.)
  pid_t process_group() const { return init_; }
  /// Becomes readable for poll(2) when init, and so every process of the sandbox, has ended.
  const OwnedFd& init_pidfd() const { return init_pidfd_; }

  /// Kills every process of the sandbox, reaps init and all that the caller traces in it, and
  /// returns when nothing is left. Doing it again does nothing.
  void destroy();

  Sandbox(Sandbox&& other) noexcept;
  Sandbox& operator=(Sandbox&& other) noexcept;
  ~Sandbox() { destroy(); }

 private:
  Sandbox(pid_t init, OwnedFd init_pidfd, OwnedFd control)
      : init_(init), init_pidfd_(std::move(init_pidfd)), control_(std::move(control)) {}
  Result<Process> ask(std::int32_t kind, pid_t pid_inside, int passed_fd);

  pid_t init_ = 0;  ///< 0: nothing left to destroy
  OwnedFd init_pidfd_;
  OwnedFd control_;  ///< SEQPACKET to init
};

/// For the child that is about to exec the guest, running as root: gives it mounts of its own, in
/// which the directory `root` is hidden by one that has /proc and nothing else.
Status make_guest_root(const std::string& root);

/// For the same child, afterwards: takes the throwaway uid and gid, no groups, and of all
/// capabilities only CAP_SETUID, CAP_SETGID and CAP_SYS_CHROOT, in such a way (ambient,
/// capabilities(7)) that they are effective after the exec as well.
Status enter_guest_identity(std::uint32_t outer_uid);

/// For the guest, once its sandbox is made (a user namespace cannot be made from within): leaves
/// the node's files for the root that make_guest_root has made.
Status enter_guest_root(const std::string& root);

/// For the guest, once its sandbox is made: gives up every capability, sets no_new_privs, allows
/// no core dump, and makes itself non-dumpable, so that neither bodies nor other programs of its
/// uid can look into it. From then on its own /proc/self files belong to root.
Status confine_self();

/// For the guest, after confine_self: from now on it may make no system call but those that
/// holding a body, talking over the sockets it has, and reading /proc take. Others give EPERM.
Status filter_self();

}  // namespace drover
