// Protobuf messages as bytes, for sockets and for the bus.
#pragma once

#include <google/protobuf/message_lite.h>

#include "common/result.h"
#include "common/wire.h"

namespace drover {

inline Bytes encode_message(const google::protobuf::MessageLite& message) {
  Bytes data(message.ByteSizeLong());
  message.SerializeToArray(data.data(), static_cast<int>(data.size()));
  return data;
}

/// An error if `data` is not a message of this type: it came from somebody else.
template <class Message>
Result<Message> decode_message(ByteView data, const char* what) {
  Message message;
  if (!message.ParseFromArray(data.data(), static_cast<int>(data.size())))
    return refusal(std::string(what) + ": malformed message");
  return message;
}

/// The contents of a protobuf `bytes` field.
inline ByteView field_bytes(const std::string& field) { return as_bytes(field); }
inline std::string to_field(ByteView data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

}  // namespace drover
