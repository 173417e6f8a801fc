#include "common/foreign_words.h"

#include <algorithm>

namespace drover {

std::string plain_words(std::string_view text, std::size_t most) {
  std::string plain(text.substr(0, most));
  std::ranges::replace_if(
      plain, [](char c) { return c < ' ' || c > '~'; }, '?');
  return plain;
}

}  // namespace drover
