#include "migrate/verbs.h"

#include <string>

namespace drover {
namespace {

struct Rule {
  Verb verb;
  bool owner;
  bool local_root;
  bool remote_node;
  bool other;
};

// clang-format off
constexpr Rule kRules[] = {
    //                    owner  root   node   other
    {Verb::kRegisterJob,  true,  true,  false, false},
    {Verb::kMigrateJob,   true,  true,  false, false},
    {Verb::kSeeJob,       true,  true,  false, false},
    {Verb::kListGuests,   true,  true,  false, true},
    {Verb::kStatus,       true,  true,  false, true},
    {Verb::kPrepareBody,  false, false, true,  false},
    {Verb::kReleaseBody,  false, false, true,  false},
    {Verb::kBodyState,    false, false, true,  false},
    {Verb::kOpenChannel,  false, false, true,  false},
};
// clang-format on
static_assert(std::size(kRules) == std::size(kAllVerbs));

}  // namespace

bool may_use(Caller caller, Verb verb) {
  for (const Rule& rule : kRules) {
    if (rule.verb != verb) continue;
    switch (caller) {
      case Caller::kOwner:
        return rule.owner;
      case Caller::kLocalRoot:
        return rule.local_root;
      case Caller::kRemoteNode:
        return rule.remote_node;
      case Caller::kOther:
        return rule.other;
    }
  }
  return false;
}

Caller local_caller(uid_t uid, std::optional<uid_t> job_owner) {
  if (uid == 0) return Caller::kLocalRoot;
  return job_owner == uid ? Caller::kOwner : Caller::kOther;
}

Status check_verb(Caller caller, Verb verb) {
  if (may_use(caller, verb)) return {};
  return Error{EPERM,
               std::string(caller_name(caller)) + " may not " + std::string(verb_name(verb))};
}

std::string_view verb_name(Verb verb) {
  switch (verb) {
    case Verb::kRegisterJob:
      return "register a job";
    case Verb::kMigrateJob:
      return "move this job";
    case Verb::kSeeJob:
      return "see this job";
    case Verb::kListGuests:
      return "list guests";
    case Verb::kStatus:
      return "ask for this node's status";
    case Verb::kPrepareBody:
      return "prepare a body";
    case Verb::kReleaseBody:
      return "release a body";
    case Verb::kBodyState:
      return "report on a body";
    case Verb::kOpenChannel:
      return "open a data channel";
  }
  return "do this";
}

std::string_view caller_name(Caller caller) {
  switch (caller) {
    case Caller::kOwner:
      return "the owner";
    case Caller::kLocalRoot:
      return "root";
    case Caller::kRemoteNode:
      return "a node";
    case Caller::kOther:
      return "another user";
  }
  return "somebody";
}

}  // namespace drover
