// Configuration files of any content: an error or values of known keys, never a crash.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "common/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace drover;
  const auto values =
      parse_config(std::string(reinterpret_cast<const char*>(data), size), "drover.conf");
  if (!values) return 0;
  for (const auto& [key, value] : *values) {
    bool known = false;
    for (const OptionSpec& spec : file_keys()) known |= spec.name == key;
    if (!known) std::abort();
  }
  return 0;
}
