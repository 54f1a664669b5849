// /pre_tokenizer of tokenizer.json: how a text is cut into words before the model sees it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/text/origins.h"
#include "lieq/text/pattern.h"

namespace lieq {

/// A chain of cuts, each of which cuts every piece of the one before, and what becomes of the last
/// pieces: the byte-level alphabet, Metaspace, or nothing. Immutable, so that threads share it.
class PreTokenizer {
 public:
  /// root  the whole document
  /// Throws Error: a type, behaviour or option that is not supported, a step behind the last one.
  explicit PreTokenizer(const JsonObject& root);

  /// Whether words are written in the byte-level alphabet; else as they are.
  [[nodiscard]] bool byte_level() const noexcept { return last_ == Last::kByteLevel; }

 private:
  friend class Splitter;
  enum class Last : std::uint8_t { kNone, kByteLevel, kMetaspace };
  enum class Behavior : std::uint8_t { kIsolated, kWithPrevious, kWithNext, kContiguous };
  /// What is looked for, a pattern or a text, and what becomes of it and of the gaps between.
  struct Cut {
    std::optional<Pattern> pattern;
    std::string text;  // where there is no pattern
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;  // gaps are what was looked for
  };
  /// Spaces become `mark`, which may be put before a piece, too.
  struct Metaspace {
    std::string mark;
    bool prepend = false;
    bool first_alone = false;  // only before a piece that the text begins with
    bool split = false;        // pieces begin at marks
  };

  void Read(const JsonObject& step);
  void ReadSplit(const JsonObject& step);
  void ReadByteLevel(const JsonObject& step);
  void ReadMetaspace(const JsonObject& step);
  void AddPattern(std::string_view pattern, const std::string& where);

  std::vector<Cut> cuts_;
  Last last_ = Last::kNone;
  Metaspace metaspace_;
};

/// How Metaspace writes a space, and whether one is put before a text ("always", "first") or not
/// ("never"): of the pre-tokenizer and the decoder. Throws Error.
struct MetaspaceOptions {
  explicit MetaspaceOptions(const JsonObject& step);
  std::string mark;
  std::string scheme;
};

/// Runs a pre-tokenizer, one thread at a time. The pre-tokenizer must outlive it.
class Splitter {
 public:
  using Sink = std::function<void(std::string_view word)>;

  explicit Splitter(const PreTokenizer& pre_tokenizer);

  /// Calls `sink` for the words of `text`, valid UTF-8, from left to right: no empty ones, and all
  /// of them together are the text, or what Metaspace makes of it. first: whether nothing came
  /// before the text. Throws Error where a pattern gives up.
  void Split(std::string_view text, bool first, const Sink& sink);

  /// While a word is shown: where a byte of it comes from in the text.
  [[nodiscard]] std::size_t OriginOf(const char* in_word) const noexcept;

 private:
  struct Piece {
    std::size_t begin = 0;
    std::size_t end = 0;
    bool match = false;
  };

  void SplitFrom(std::size_t step, std::string_view shadow, std::string_view text,
                 const Sink& sink);
  void SplitMetaspace(std::string_view text, const Sink& sink);
  [[nodiscard]] std::optional<MatchRange> Find(std::size_t step, std::string_view shadow,
                                               std::string_view text, std::size_t from);

  const PreTokenizer* pre_tokenizer_;
  std::vector<std::optional<Matcher>> matchers_;
  std::string stand_ins_;
  std::string_view text_;
  bool first_ = false;
  // Of a piece that Metaspace changed: what it was, what it is, and where that comes from.
  std::string_view before_;
  std::string marked_;
  std::string prefixed_;
  Origins origins_;
};

}  // namespace lieq
