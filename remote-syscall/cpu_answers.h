// What a program that is away is told of its CPU time: P's, as home has answered, and the body's.
#pragma once

#include "remote-syscall/body.h"
#include "remote-syscall/marshal.h"

namespace drover {

/// Whether answers to this call tell of CPU time: clock_gettime, getrusage and times may.
bool tells_cpu_time(int number);

/// Adds what the body has used to `data`, the contents of the reply's pieces. The call is one of
/// thread `caller`.
void add_body_cpu(const CallRequest& request, const CallReply& reply, Body& body,
                  std::int32_t caller, Bytes& data);

}  // namespace drover
