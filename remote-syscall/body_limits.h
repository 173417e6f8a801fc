// The limits of a program's memory, enforced by its body's kernel while it is away. What they are,
// home decides.
#pragma once

#include "common/process/limits.h"
#include "remote-syscall/body.h"

namespace drover {

/// What its body is to be limited to, in bytes, so that the program gets what it would at home: our
/// own mapping does not count. `scratch` is that. A hard limit leaves room for the homecoming,
/// which nobody may exceed it for.
MemoryLimits limits_of_body(const MemoryLimits& at_home, const Scratch& scratch);

/// Limits a body that has all that it began with.
Status limit_body(Body& body, const MemoryLimits& at_home);

}  // namespace drover
