#include "lieq/text/pretokenizer.h"

#include <optional>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"
#include "lieq/text/reference_unicode.h"

namespace lieq {
namespace {

// github.com/openai/gpt-2, src/encoder.py: what ByteLevel splits by if it is not told otherwise.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Digits asks Rust's standard library, whose Unicode 17 has 13 numbers more than Oniguruma's 16.
constexpr std::string_view kDigit = "[\\p{N}\U00011DE0-\U00011DE9\U00016FF4-\U00016FF6]";

[[noreturn]] void Refuse(std::string what, const JsonObject& step, std::string_view key,
                         std::string expected, std::string_view found) {
  throw Error({.what = std::move(what),
               .where = step.Where(key),
               .expected = std::move(expected),
               .found = Printable(found)});
}

}  // namespace

PreTokenizer::PreTokenizer(const JsonObject& root) {
  if (root.Has("pre_tokenizer")) Read(root.Object("pre_tokenizer"));
  if (!byte_level_) {
    Refuse("pre-tokenizer is not byte-level", root, "pre_tokenizer", "a ByteLevel step at the end",
           "none");
  }
}

void PreTokenizer::Read(const JsonObject& step) {
  const std::string type = step.String("type");
  if (byte_level_) {
    Refuse("pre-tokenizer step behind ByteLevel is not supported", step, "type",
           "ByteLevel as the last one", type);
  }
  if (type == "Sequence") {
    const Json& steps = step.At("pretokenizers");
    if (!steps.is_array()) {
      Refuse("wrong type of value", step, "pretokenizers", "an array", steps.type_name());
    }
    for (std::size_t i = 0; i < steps.size(); ++i) {
      Read(JsonObject(steps[i], step.Where("pretokenizers") + "/" + std::to_string(i)));
    }
  } else if (type == "Split") {
    ReadSplit(step);
  } else if (type == "Digits") {
    const bool each = step.Boolean("individual_digits", false);
    patterns_.emplace_back(std::string(kDigit) + (each ? "" : "+"), step.Where("type"));
  } else if (type == "ByteLevel") {
    ReadByteLevel(step);
  } else {
    Refuse("pre-tokenizer is not supported", step, "type", "Sequence, Split, Digits or ByteLevel",
           type);
  }
}

void PreTokenizer::ReadSplit(const JsonObject& step) {
  // "invert" swaps matches and gaps, which Isolated treats alike.
  if (const std::string behavior = step.String("behavior"); behavior != "Isolated") {
    Refuse("split behavior is not supported", step, "behavior", "Isolated", behavior);
  }
  const JsonObject pattern = step.Object("pattern");
  if (!pattern.Has("Regex")) {
    Refuse("split pattern is not supported", step, "pattern", "a Regex", pattern.value().dump());
  }
  patterns_.emplace_back(pattern.String("Regex"), pattern.Where("Regex"));
}

void PreTokenizer::ReadByteLevel(const JsonObject& step) {
  if (step.Boolean("add_prefix_space", true)) {
    Refuse("pre-tokenizer option is not supported", step, "add_prefix_space", "false", "true");
  }
  if (step.Boolean("use_regex", true)) {
    patterns_.emplace_back(kGpt2Pattern, step.Where("use_regex"));
  }
  byte_level_ = true;
}

Splitter::Splitter(const PreTokenizer& pre_tokenizer) {
  for (const Pattern& pattern : pre_tokenizer.patterns_) matchers_.emplace_back(pattern);
}

void Splitter::Split(std::string_view text, const Sink& sink) {
  SplitFrom(0, WithStandIns(text, stand_ins_), text, sink);
}

/// shadow  `text` with stand-ins: what the patterns see, byte for byte at the same offsets
void Splitter::SplitFrom(std::size_t step, std::string_view shadow, std::string_view text,
                         const Sink& sink) {
  if (text.empty()) return;
  if (step == matchers_.size()) return sink(text);
  const auto pass_on = [&](std::size_t begin, std::size_t end) {
    SplitFrom(step + 1, shadow.substr(begin, end - begin), text.substr(begin, end - begin), sink);
  };
  std::size_t done = 0;
  while (done < text.size()) {
    const std::optional<MatchRange> match = matchers_[step].Find(shadow, done);
    if (!match) break;
    pass_on(done, match->begin);
    pass_on(match->begin, match->end);
    done = match->end;
  }
  pass_on(done, text.size());
}

}  // namespace lieq
