// Words that somebody else has chosen, on their way to a terminal, a log or a message.
#pragma once

#include <string>
#include <string_view>

namespace drover {

/// The text with a ? for every byte that is no printable ASCII, cut off after `most` bytes: it
/// stays on its line, steers no terminal, and is UTF-8.
std::string plain_words(std::string_view text, std::size_t most = 500);

}  // namespace drover
