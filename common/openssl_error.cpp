#include "common/openssl_error.h"

#include <openssl/err.h>

namespace drover {

Error openssl_error(const std::string& what) {
  const char* reason = ERR_reason_error_string(ERR_get_error());
  ERR_clear_error();
  return refusal(what + ": " + (reason ? reason : "OpenSSL failed"));
}

void clear_openssl_errors() {
  if (ERR_peek_error() != 0) ERR_clear_error();
}

}  // namespace drover
