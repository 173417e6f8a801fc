#include "migrate/verbs.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

namespace drover {
namespace {

// What architecture.md and mosps(1), migrated(8) promise, written a second time on purpose: a
// change of the table in the code has to be made here as well, by somebody who means it.
const std::map<Verb, std::set<Caller>> kPromised = {
    {Verb::kRegisterJob, {Caller::kOwner, Caller::kLocalRoot}},
    {Verb::kMigrateJob, {Caller::kOwner, Caller::kLocalRoot}},
    {Verb::kSeeJob, {Caller::kOwner, Caller::kLocalRoot}},
    {Verb::kListGuests, {Caller::kOwner, Caller::kLocalRoot, Caller::kOther}},
    {Verb::kStatus, {Caller::kOwner, Caller::kLocalRoot, Caller::kOther}},
    {Verb::kPrepareBody, {Caller::kRemoteNode}},
    {Verb::kReleaseBody, {Caller::kRemoteNode}},
    {Verb::kBodyState, {Caller::kRemoteNode}},
    {Verb::kOpenChannel, {Caller::kRemoteNode}},
};

TEST(Verbs, EveryCallerMayUseExactlyWhatIsPromised) {
  ASSERT_EQ(kPromised.size(), std::size(kAllVerbs));
  for (const Verb verb : kAllVerbs)
    for (const Caller caller : kAllCallers) {
      SCOPED_TRACE(std::string(caller_name(caller)) + ", " + std::string(verb_name(verb)));
      const bool promised = kPromised.at(verb).count(caller) > 0;
      EXPECT_EQ(may_use(caller, verb), promised);
      EXPECT_EQ(check_verb(caller, verb).ok(), promised);
    }
}

TEST(Verbs, ARefusalSaysWhoMayNotDoWhat) {
  const Status refused = check_verb(Caller::kOther, Verb::kMigrateJob);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().what, "another user may not move this job");
  EXPECT_EQ(refused.error().code, EPERM);
}

TEST(Verbs, NoNodeMayUseAVerbOfLocalUsersNorTheyOneOfNodes) {
  for (const Verb verb : kAllVerbs) {
    const bool node = may_use(Caller::kRemoteNode, verb);
    for (const Caller caller : {Caller::kOwner, Caller::kLocalRoot, Caller::kOther})
      EXPECT_FALSE(node && may_use(caller, verb)) << verb_name(verb);
  }
}

TEST(Verbs, ALocalCallerIsOwnerByUidAlone) {
  EXPECT_EQ(local_caller(1000, 1000), Caller::kOwner);
  EXPECT_EQ(local_caller(1000, 1001), Caller::kOther);
  EXPECT_EQ(local_caller(1000, 0), Caller::kOther);
  EXPECT_EQ(local_caller(1000, std::nullopt), Caller::kOther);
  EXPECT_EQ(local_caller(0, 1000), Caller::kLocalRoot);
  EXPECT_EQ(local_caller(0, 0), Caller::kLocalRoot);
  EXPECT_EQ(local_caller(65534, 1000), Caller::kOther);  // an id outside our user namespace
}

}  // namespace
}  // namespace drover
