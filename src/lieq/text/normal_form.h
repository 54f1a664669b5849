// /normalizer of tokenizer.json: what a text becomes before it is cut into words.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/text/origins.h"

namespace lieq {

/// A text in normal form, and the memory that it takes; used again for the next one.
class NormalText {
 public:
  /// origins: whether OriginOf is asked for.
  explicit NormalText(bool origins = false) : wanted_(origins) {}
  NormalText(const NormalText&) = delete;  // text() may lie in it
  NormalText& operator=(const NormalText&) = delete;

  [[nodiscard]] std::string_view text() const noexcept { return text_; }
  /// Whether characters were composed, so that places are rough.
  [[nodiscard]] bool composed() const noexcept { return composed_; }
  /// Where the byte at `at` comes from, in the text before; roughly where it was composed.
  [[nodiscard]] std::size_t OriginOf(std::size_t at) const noexcept;

 private:
  friend class NormalForm;
  bool wanted_ = false;
  bool composed_ = false;
  std::string_view text_;
  std::size_t size_before_ = 0;
  std::array<std::string, 2> buffers_;
  std::vector<Origins> origins_;  // of each step
};

/// Steps that go one after another. Immutable, so that threads share it.
class NormalForm {
 public:
  /// root  the whole document
  /// Throws Error: a type or option that is not supported, by its name.
  explicit NormalForm(const JsonObject& root);

  /// text: valid UTF-8, and outlives the use of `normal`.
  void Apply(std::string_view text, NormalText& normal) const;
  [[nodiscard]] std::string Apply(std::string_view text) const;

 private:
  enum class Kind : std::uint8_t { kNfc, kPrepend, kReplace };
  struct Step {
    Kind kind = Kind::kNfc;
    std::string find;     // of kReplace
    std::string content;  // what is put there
  };

  void Read(const JsonObject& step);
  void ReadReplace(const JsonObject& step);

  std::vector<Step> steps_;
};

/// `text` with `content` for every `find`, from left to right, in `out`. origins: null, or cleared.
/// Whether there was one.
bool ReplaceAll(std::string_view text, std::string_view find, std::string_view content,
                std::string& out, Origins* origins);

/// The steps of a Sequence: an array of objects. Throws Error.
[[nodiscard]] std::vector<JsonObject> StepsOf(const JsonObject& sequence, const char* key);

}  // namespace lieq
