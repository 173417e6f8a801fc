// What OpenSSL says went wrong, as our errors.
#pragma once

#include <string>

#include "common/result.h"

namespace drover {

/// An error "what: reason" with the oldest reason that OpenSSL queued for this thread. Leaves the
/// queue empty.
Error openssl_error(const std::string& what);

/// Empties this thread's queue. SSL_get_error(3) wants that before every operation; emptying an
/// empty queue is not free, looking is.
void clear_openssl_errors();

}  // namespace drover
