#include "lieq/text/tokenizer.h"

#include <algorithm>
#include <cstddef>
#include <unordered_set>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/io/json.h"
#include "lieq/io/printable.h"
#include "lieq/text/added_tokens.h"
#include "lieq/text/bpe.h"
#include "lieq/text/normalizer.h"
#include "lieq/text/post_processor.h"
#include "lieq/text/pretokenizer.h"
#include "lieq/text/utf8.h"
#include "lieq/text/vocabulary.h"

namespace lieq {
namespace {

/// Whether `step` and what is in it normalize to NFC; nothing else is supported.
bool ReadNormalizer(const JsonObject& step) {
  const std::string type = step.String("type");
  if (type == "NFC") return true;
  if (type != "Sequence") {
    throw Error({.what = "normalizer is not supported",
                 .where = step.Where("type"),
                 .expected = "NFC, or a Sequence of it",
                 .found = Printable(type)});
  }
  const Json& steps = step.At("normalizers");
  if (!steps.is_array()) {
    throw Error({.what = "wrong type of value",
                 .where = step.Where("normalizers"),
                 .expected = "an array",
                 .found = steps.type_name()});
  }
  bool nfc = false;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    nfc |=
        ReadNormalizer(JsonObject(steps[i], step.Where("normalizers") + "/" + std::to_string(i)));
  }
  return nfc;
}

void CheckDecoder(const JsonObject& root) {
  const std::string type = root.Object("decoder").String("type");
  if (type != "ByteLevel") {
    throw Error({.what = "decoder is not supported",
                 .where = root.Where("decoder/type"),
                 .expected = "ByteLevel",
                 .found = Printable(type)});
  }
}

/// The added tokens that are looked for before (`normalized` false) or after the normalizer.
AddedTokenFinder FinderOf(const Vocabulary& vocabulary, bool normalized, const std::string& where) {
  std::vector<AddedToken> tokens;
  std::unordered_set<std::string> contents;
  for (const AddedToken& token : vocabulary.added()) {
    if (token.normalized != normalized) continue;
    if (!contents.insert(token.content).second) {
      throw Error({.what = "two added tokens are one after normalization",
                   .where = where,
                   .found = "'" + Printable(token.content) + "'"});
    }
    tokens.push_back(token);
  }
  return AddedTokenFinder(std::move(tokens));
}

}  // namespace

struct Tokenizer::Impl {
  Impl(const JsonObject& root, std::string document)
      : where(std::move(document)),
        nfc(root.Has("normalizer") && ReadNormalizer(root.Object("normalizer"))),
        vocabulary(root, nfc),
        raw_tokens(FinderOf(vocabulary, false, root.Where("added_tokens"))),
        normalized_tokens(FinderOf(vocabulary, true, root.Where("added_tokens"))),
        pre_tokenizer(root),
        bpe(root.Object("model"), vocabulary),
        frame(ReadFrame(root, vocabulary.size())) {
    CheckDecoder(root);
  }

  /// What the limit is for.
  void CheckLimit(const std::vector<TokenId>& ids) const {
    if (rows == 0 || rows >= vocabulary.size()) return;
    const auto above = std::ranges::find_if(ids, [&](TokenId id) { return id >= rows; });
    if (above == ids.end()) return;
    throw Error(
        {.what = "the text uses a token that the model has no row for",
         .where = where,
         .expected = "ids below " + std::to_string(rows) + ", the rows of the embedding",
         .found = "'" + Printable(vocabulary.Name(*above)) + "', id " + std::to_string(*above),
         .hint = "take it out of the text, or give the model rows for it with transformers: "
                 "model.resize_token_embeddings(len(tokenizer))"});
  }

  using Allowed = AddedTokenFinder::Allowed;
  /// text: valid UTF-8. begins: of each token, or none are wanted.
  void Encode(std::string_view text, const Allowed& allowed, std::vector<TokenId>& ids,
              std::vector<std::size_t>* begins) const;

  std::string where;
  Index rows = 0;
  bool nfc;
  Vocabulary vocabulary;
  AddedTokenFinder raw_tokens;
  AddedTokenFinder normalized_tokens;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  Frame frame;
};

// "truncation" and "padding" are left aside: they are settings of a past call that were saved
// along, and transformers overrides them as well.
Tokenizer Tokenizer::Parse(std::string_view json, const std::string& where) {
  const Json document = ParseJson(json, where);
  return Tokenizer(std::make_unique<Impl>(JsonObject(document, where), where));
}

Tokenizer Tokenizer::Open(const std::filesystem::path& tokenizer_json) {
  return Parse(ReadText(tokenizer_json), tokenizer_json.string());
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

void Tokenizer::LimitTo(Index rows) noexcept {
  impl_->rows = rows;
}

void Tokenizer::Impl::Encode(std::string_view text, const Allowed& allowed,
                             std::vector<TokenId>& ids, std::vector<std::size_t>* begins) const {
  Splitter splitter(pre_tokenizer);
  BpeEncoder encoder(bpe);
  std::string normalized;
  std::size_t part_begin = 0;  // of what the normalizer works on, in the text
  std::size_t part_size = 0;
  const char* part_data = nullptr;  // of the same, normalized
  const auto place_of = [&](std::string_view piece) {
    return part_begin + std::min(static_cast<std::size_t>(piece.data() - part_data), part_size);
  };
  const Splitter::Sink encode = [&](std::string_view word) {
    const std::size_t before = ids.size();
    encoder.Encode(word, ids);
    if (begins == nullptr) return;
    std::size_t done = 0;
    for (std::size_t i = before; i < ids.size(); ++i) {
      begins->push_back(place_of(word.substr(std::min(done, word.size()))));
      done += vocabulary.Bytes(ids[i]).size();
    }
  };
  const AddedTokenFinder::Sink split = [&](const AddedToken* token, std::string_view part) {
    if (token == nullptr) return splitter.Split(part, encode);
    ids.push_back(token->id);
    if (begins != nullptr) begins->push_back(place_of(part));
  };
  const AddedTokenFinder::Sink normalize = [&](const AddedToken* token, std::string_view part) {
    part_begin = static_cast<std::size_t>(part.data() - text.data());
    part_size = part.size();
    part_data = part.data();
    if (token != nullptr) return split(token, part);
    const std::string_view form = nfc ? ToNfc(part, normalized) : part;
    part_data = form.data();
    const bool same = form.data() == part.data();
    AddedTokenFinder::Allowed inside;
    if (allowed) {
      inside = [&](const AddedToken& found, std::size_t begin, std::size_t end) {
        return same ? allowed(found, part_begin + begin, part_begin + end)
                    : allowed(found, part_begin, part_begin + part_size);
      };
    }
    normalized_tokens.Split(form, split, inside);
  };
  raw_tokens.Split(text, normalize, allowed);
}

std::vector<TokenId> Tokenizer::Encode(std::string_view text, bool special) const {
  std::vector<TokenId> ids;
  if (special) ids = impl_->frame.before;
  std::string repaired;
  impl_->Encode(ToValidUtf8(text, repaired), {}, ids, nullptr);
  if (special) ids.insert(ids.end(), impl_->frame.after.begin(), impl_->frame.after.end());
  impl_->CheckLimit(ids);
  return ids;
}

PlacedTokens Tokenizer::EncodePlaced(std::string_view text,
                                     std::span<const PlainSpan> plain) const {
  const auto allowed = [&](const AddedToken& token, std::size_t begin, std::size_t end) {
    if (WithoutSpaceBehind(token.content).empty()) return true;  // text, whoever wrote it
    auto span = std::ranges::upper_bound(plain, begin, {}, &PlainSpan::end);
    for (; span != plain.end() && span->begin < end; ++span) {
      if (token.special || !span->special_alone) return false;
    }
    return true;
  };
  PlacedTokens tokens;
  impl_->Encode(text, allowed, tokens.ids, &tokens.begins);
  impl_->CheckLimit(tokens.ids);
  return tokens;
}

std::string Tokenizer::Decode(const std::vector<TokenId>& ids, bool skip_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    const std::string_view token = Bytes(id);
    if (!skip_special || !impl_->vocabulary.IsSpecial(id)) bytes += token;
  }
  std::string repaired;
  return std::string(ToValidUtf8(bytes, repaired));
}

std::string_view Tokenizer::Bytes(TokenId id) const {
  if (id < 0 || id >= impl_->vocabulary.size()) {
    throw Error({.what = "token id is out of range",
                 .where = "text to decode",
                 .expected = "0 to " + std::to_string(impl_->vocabulary.size() - 1),
                 .found = std::to_string(id)});
  }
  return impl_->vocabulary.Bytes(id);
}

const std::vector<TokenId>& Tokenizer::Prefix() const noexcept {
  return impl_->frame.before;
}

Index Tokenizer::vocab() const noexcept {
  return impl_->vocabulary.size();
}

std::optional<TokenId> Tokenizer::Find(std::string_view token) const {
  return impl_->vocabulary.Find(token);
}

}  // namespace lieq
