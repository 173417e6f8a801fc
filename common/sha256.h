// SHA-256 of bytes that come in pieces.
#pragma once

#include <array>
#include <memory>

#include "common/wire.h"

struct evp_md_ctx_st;

namespace drover {

using Sha256Digest = std::array<std::byte, 32>;

class Sha256 {
 public:
  Sha256();
  void update(ByteView data);
  Sha256Digest finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace drover
