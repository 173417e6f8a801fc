#include "common/base64.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <climits>

namespace drover {

std::string base64_encode(ByteView data) {
  std::string out((data.size() + 2) / 3 * 4 + 1, '\0');  // OpenSSL ends it with a NUL
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(data.data()),
                                   static_cast<int>(data.size()));
  out.resize(static_cast<std::size_t>(size));
  return out;
}

std::optional<Bytes> base64_decode(std::string_view text) {
  if (text.size() % 4 != 0 || text.size() > INT_MAX / 2) return std::nullopt;
  Bytes out(text.size() / 4 * 3);
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  // The padding counts as zero bytes for OpenSSL, which also lets blanks and stray bits pass.
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  if (static_cast<std::size_t>(size) < padding) return std::nullopt;
  out.resize(static_cast<std::size_t>(size) - padding);
  if (base64_encode(out) != text) return std::nullopt;
  return out;
}

bool base64_decode_into(std::string_view text, std::span<std::byte> out) {
  std::optional<Bytes> bytes = base64_decode(text);
  const bool fits = bytes && bytes->size() == out.size();
  if (fits) std::copy(bytes->begin(), bytes->end(), out.begin());
  if (bytes) OPENSSL_cleanse(bytes->data(), bytes->size());  // it may have been a private key
  return fits;
}

}  // namespace drover
