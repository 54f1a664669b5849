// /pre_tokenizer of tokenizer.json: how a text is cut into words before the model sees it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/text/pattern.h"

namespace lieq {

/// A chain of patterns: each cuts every piece of the one before into its matches and the gaps
/// between them. Immutable, so that threads share it.
class PreTokenizer {
 public:
  /// root  the whole document
  /// Throws Error: a type, behaviour or option that is not supported, no ByteLevel at the end.
  explicit PreTokenizer(const JsonObject& root);

 private:
  friend class Splitter;
  void Read(const JsonObject& step);
  void ReadSplit(const JsonObject& step);
  void ReadByteLevel(const JsonObject& step);

  std::vector<Pattern> patterns_;
  bool byte_level_ = false;  // the ByteLevel step was read
};

/// Runs a pre-tokenizer, one thread at a time. The pre-tokenizer must outlive it.
class Splitter {
 public:
  using Sink = std::function<void(std::string_view word)>;

  explicit Splitter(const PreTokenizer& pre_tokenizer);

  /// Calls `sink` for the words of `text`, valid UTF-8, from left to right: no empty ones, and all
  /// of them together are the text. Throws Error where a pattern gives up.
  void Split(std::string_view text, const Sink& sink);

 private:
  void SplitFrom(std::size_t step, std::string_view shadow, std::string_view text,
                 const Sink& sink);

  std::vector<Matcher> matchers_;
  std::string stand_ins_;
};

}  // namespace lieq
