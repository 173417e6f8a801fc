#include "remote-syscall/body_messages.h"

namespace drover {

Bytes Hello::encode() const {
  WireWriter w;
  w.number(version);
  w.text(job);
  w.number(epoch);
  return w.take();
}

Result<Hello> Hello::decode(ByteView data) {
  WireReader r(data);
  Hello h;
  h.version = r.number<std::uint32_t>();
  h.job = r.text(64);
  h.epoch = r.number<std::uint64_t>();
  DROVER_CHECK(r.finish("hello"));
  return h;
}

}  // namespace drover
