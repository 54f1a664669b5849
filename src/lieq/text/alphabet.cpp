#include "lieq/text/alphabet.h"

#include <algorithm>
#include <optional>
#include <string>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"
#include "lieq/text/byte_level.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

/// "<0x0A>"
std::string NameOfByte(unsigned byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte >> 4u] + kDigits[byte & 15u] + ">";
}

}  // namespace

/// Holds an unknown token back, in case the next one is fused with it.
class Alphabet::Writer {
 public:
  Writer(const Alphabet& alphabet, std::vector<TokenId>& letters)
      : alphabet_(alphabet), letters_(letters) {}

  void Known(TokenId id) {
    Flush();
    letters_.push_back(id);
  }
  /// As the reference does, an unknown token that waits comes behind it.
  void Bytes(std::string_view character) {
    for (const char byte : character) letters_.push_back(alphabet_.IdOf(byte));
  }
  void Unknown() {
    if (alphabet_.unknown_ == kNone) return;
    if (!alphabet_.fuse_) Flush();
    waiting_ = true;
  }
  void Flush() {
    if (waiting_) letters_.push_back(alphabet_.unknown_);
    waiting_ = false;
  }

 private:
  const Alphabet& alphabet_;
  std::vector<TokenId>& letters_;
  bool waiting_ = false;
};

Alphabet::Alphabet(const JsonObject& model, const Vocabulary& vocabulary, bool byte_level)
    : byte_level_(byte_level),
      fuse_(model.Boolean("fuse_unk", false)),
      fallback_(!byte_level && model.Boolean("byte_fallback", false)) {
  bool all = true;
  for (unsigned byte = 0; byte < bytes_.size(); ++byte) {
    const std::string name =
        byte_level ? CharacterOfByte(static_cast<unsigned char>(byte)) : NameOfByte(byte);
    const std::optional<TokenId> id = vocabulary.FindInModel(name);
    bytes_[byte] = id.value_or(kNone);
    all &= id.has_value();
  }
  if (!byte_level) {
    for (TokenId id = 0; id < vocabulary.model_size(); ++id) {
      const std::string_view name = vocabulary.Name(id);
      if (name.empty()) continue;
      const CodePoint first = CodePointAt(name, 0);
      if (first.bytes != name.size()) continue;
      if (first.value >= characters_.size()) characters_.resize(first.value + 1, kNone);
      characters_[first.value] = id;
    }
  }
  if (!all || (!byte_level && !fallback_)) ReadUnknown(model, vocabulary);
}

void Alphabet::ReadUnknown(const JsonObject& model, const Vocabulary& vocabulary) {
  if (!model.Has("unk_token")) return;  // letters without a token are dropped: so the reference
  const std::string unknown = model.String("unk_token");
  const std::optional<TokenId> id = vocabulary.FindInModel(unknown);
  if (!id) {
    throw Error({.what = "unknown token is needed and not in the vocabulary",
                 .where = model.Where("unk_token"),
                 .expected = "a token, as letters without one are possible",
                 .found = "'" + Printable(unknown) + "'"});
  }
  unknown_ = *id;
}

void Alphabet::Read(std::string_view word, std::vector<TokenId>& letters) const {
  Writer writer(*this, letters);
  if (byte_level_) {
    for (const char byte : word) {
      const TokenId id = IdOf(byte);
      id == kNone ? writer.Unknown() : writer.Known(id);
    }
    return writer.Flush();
  }
  for (std::size_t at = 0; at < word.size();) {
    const CodePoint letter = CodePointAt(word, at);
    const std::string_view bytes = word.substr(at, letter.bytes);
    at += letter.bytes;
    if (Knows(letter.value)) {
      writer.Known(characters_[letter.value]);
    } else if (fallback_ &&
               std::ranges::all_of(bytes, [&](char byte) { return IdOf(byte) != kNone; })) {
      writer.Bytes(bytes);
    } else {
      writer.Unknown();
    }
  }
  writer.Flush();
}

}  // namespace lieq
