#include "lieq/text/text_stream.h"

#include "lieq/text/utf8.h"

namespace lieq {

std::string TextStream::Add(TokenId token) {
  pending_ += tokenizer_.Bytes(token);
  return Take(WholeCharacters(pending_));
}

std::string TextStream::Finish() {
  return Take(pending_.size());
}

std::string TextStream::Take(std::size_t bytes) {
  std::string repaired;
  std::string text(ToValidUtf8(std::string_view(pending_).substr(0, bytes), repaired));
  pending_.erase(0, bytes);
  return text;
}

}  // namespace lieq
