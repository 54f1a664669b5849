#include "lieq/text/text_stream.h"

namespace lieq {

std::string TextStream::Add(TokenId token) {
  std::string text;
  assembler_.Add(tokenizer_.Name(token), tokenizer_.Text(token), text);
  return text;
}

std::string TextStream::Finish() {
  std::string text;
  assembler_.Finish(text);
  return text;
}

}  // namespace lieq
