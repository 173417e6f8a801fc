// Who may do what: the one table that says which caller may use which verb of migrated.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>

#include "common/result.h"

namespace drover {

/// What migrated can be asked to do, by a tool (local socket) or a node (control bus, data port).
enum class Verb {
  kRegisterJob,  ///< make the calling process itself a job
  kMigrateJob,   ///< move a job's process
  kSeeJob,       ///< list a job, its counters, and why it cannot move
  kListGuests,   ///< list the bodies that run here, as ps would show their processes anyway
  kStatus,       ///< this node's name, zone and numbers
  kPrepareBody,  ///< make a place for a body of the calling node's own job
  kReleaseBody,  ///< give such a place up
  kBodyState,    ///< say how a body fares: its home listens only to the node it was sent to
  kOpenChannel,  ///< present a ticket on the data port
};
inline constexpr Verb kAllVerbs[] = {
    Verb::kRegisterJob, Verb::kMigrateJob,  Verb::kSeeJob,    Verb::kListGuests,  Verb::kStatus,
    Verb::kPrepareBody, Verb::kReleaseBody, Verb::kBodyState, Verb::kOpenChannel,
};

enum class Caller {
  kOwner,       ///< a local process with the uid of the job that the verb is about
  kLocalRoot,   ///< uid 0 of this node
  kRemoteNode,  ///< a member of the cluster, authenticated by its key
  kOther,       ///< any other local user
};
inline constexpr Caller kAllCallers[] = {Caller::kOwner, Caller::kLocalRoot, Caller::kRemoteNode,
                                         Caller::kOther};

/// True if the table allows it.
bool may_use(Caller caller, Verb verb);

/// As what a local process of `uid` asks about a job of `job_owner` (none: the verb is about
/// no job of somebody's).
Caller local_caller(uid_t uid, std::optional<uid_t> job_owner);

/// A refusal in words if `caller` may not use `verb`.
Status check_verb(Caller caller, Verb verb);

std::string_view verb_name(Verb verb);
std::string_view caller_name(Caller caller);

}  // namespace drover
