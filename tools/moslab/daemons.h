// The Drover cluster inside a lab: keys, the signed membership list, configuration, daemons.
#pragma once

#include "common/result.h"
#include "tools/moslab/lab.h"

namespace drover::moslab {

/// Makes every node's keys and configuration, founds a cluster on n1 and gives all nodes its
/// signed membership list.
Status found_cluster(const Lab& lab);

/// Starts migrated on a node; its log is /var/log/drover/migrated.log there.
Status start_daemon(const Lab& lab, int index);

/// Waits until a node's migrated takes commands. The error quotes its log.
Status await_daemon(const Lab& lab, int index);

/// Whether a node's migrated takes commands now.
bool daemon_answers(const Lab& lab, int index);

}  // namespace drover::moslab
