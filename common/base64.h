// Base64 of RFC 4648 section 4, as keys and signatures are written.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/wire.h"

namespace drover {

std::string base64_encode(ByteView data);
/// The bytes of `text`; nothing unless it is exactly what base64_encode gives for them.
std::optional<Bytes> base64_decode(std::string_view text);

/// Fills `out` with the bytes of `text`; false unless they are exactly as many.
bool base64_decode_into(std::string_view text, std::span<std::byte> out);

}  // namespace drover
