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
#include "lieq/text/normal_form.h"
#include "lieq/text/post_processor.h"
#include "lieq/text/pretokenizer.h"
#include "lieq/text/token_decoder.h"
#include "lieq/text/utf8.h"
#include "lieq/text/vocabulary.h"

namespace lieq {
namespace {

/// Words and names of tokens are both in the byte-level alphabet, or neither is.
void CheckAgreement(const JsonObject& root, bool words, bool names) {
  if (words == names) return;
  throw Error({.what = words ? "decoder is not byte-level, and the pre-tokenizer is"
                             : "pre-tokenizer is not byte-level, and the decoder is",
               .where = root.Where(words ? "decoder" : "pre_tokenizer"),
               .expected = words ? "ByteLevel" : "a ByteLevel step at the end"});
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
        normal(root),
        pre_tokenizer(root),
        decoder(root),
        vocabulary(root, normal, decoder),
        raw_tokens(FinderOf(vocabulary, false, root.Where("added_tokens"))),
        normalized_tokens(FinderOf(vocabulary, true, root.Where("added_tokens"))),
        bpe(root.Object("model"), vocabulary, pre_tokenizer.byte_level()),
        frame(ReadFrame(root, vocabulary.size())) {
    CheckAgreement(root, pre_tokenizer.byte_level(), decoder.byte_level());
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

  /// Bytes of a word that the token stands for; of an unknown one, about.
  [[nodiscard]] std::size_t BytesInWord(TokenId id) const {
    const TokenText& text = vocabulary.Text(id);
    if (decoder.byte_level() || text.single_byte) return text.bytes.size();
    return id == bpe.alphabet().unknown() ? 1 : vocabulary.Name(id).size();
  }

  /// Takes special tokens from `first` on apart that merges made of text which is no more than
  /// text.
  void UnmakeSpecial(std::vector<TokenId>& ids, std::size_t first) const {
    std::vector<TokenId> letters;
    for (std::size_t i = first; i < ids.size(); ++i) {
      const TokenId id = ids[i];
      if (!vocabulary.IsSpecial(id) || id == bpe.alphabet().unknown()) continue;
      letters.clear();
      const bool bytes = decoder.byte_level();
      bpe.alphabet().Read(bytes ? vocabulary.Bytes(id) : vocabulary.Name(id), letters);
      if (letters.size() < 2) continue;  // of one letter, which is what it is
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(i));
      ids.insert(ids.begin() + static_cast<std::ptrdiff_t>(i), letters.begin(), letters.end());
    }
  }

  using Allowed = AddedTokenFinder::Allowed;
  /// text: valid UTF-8. begins: of each token, or none are wanted.
  void Encode(std::string_view text, const Allowed& allowed, std::vector<TokenId>& ids,
              std::vector<std::size_t>* begins) const;

  std::string where;
  Index rows = 0;
  NormalForm normal;
  PreTokenizer pre_tokenizer;
  TokenDecoder decoder;
  Vocabulary vocabulary;
  AddedTokenFinder raw_tokens;
  AddedTokenFinder normalized_tokens;
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
  NormalText form(begins != nullptr || allowed);
  std::size_t part_begin = 0;  // of what the normalizer works on, in the text
  std::size_t piece_at = 0;    // of what is split, in the normal form of that
  const auto origin_of = [&](std::size_t at) { return part_begin + form.OriginOf(at); };
  const Splitter::Sink encode = [&](std::string_view word) {
    const std::size_t before = ids.size();
    encoder.Encode(word, ids);
    if (allowed) UnmakeSpecial(ids, before);
    if (begins == nullptr) return;
    std::size_t done = 0;
    for (std::size_t i = before; i < ids.size(); ++i) {
      const char* const at = word.data() + std::min(done, word.size());
      begins->push_back(origin_of(piece_at + splitter.OriginOf(at)));
      done += BytesInWord(ids[i]);
    }
  };
  const AddedTokenFinder::Sink split = [&](const AddedToken* token, std::string_view part) {
    piece_at = static_cast<std::size_t>(part.data() - form.text().data());
    if (token == nullptr) {
      return splitter.Split(part, part_begin == 0 && piece_at == 0, encode);
    }
    ids.push_back(token->id);
    if (begins != nullptr) begins->push_back(origin_of(piece_at));
  };
  const AddedTokenFinder::Sink normalize = [&](const AddedToken* token, std::string_view part) {
    part_begin = static_cast<std::size_t>(part.data() - text.data());
    if (token != nullptr) {
      ids.push_back(token->id);
      if (begins != nullptr) begins->push_back(part_begin);
      return;
    }
    normal.Apply(part, form);
    AddedTokenFinder::Allowed inside;
    if (allowed) {
      inside = [&, part](const AddedToken& found, std::size_t begin, std::size_t end) {
        if (form.composed()) return allowed(found, part_begin, part_begin + part.size());
        return allowed(found, origin_of(begin), origin_of(end));
      };
    }
    normalized_tokens.Split(form.text(), split, inside);
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
  TextAssembler assembler(impl_->decoder, TextAssembler::Broken::kWholeRun, true);
  std::string text;
  for (const TokenId id : ids) {
    const TokenText& token = Text(id);
    if (!skip_special || !impl_->vocabulary.IsLeftOut(id)) assembler.Add(Name(id), token, text);
  }
  assembler.Finish(text);
  return text;
}

void Tokenizer::CheckId(TokenId id) const {
  if (id >= 0 && id < impl_->vocabulary.size()) return;
  throw Error({.what = "token id is out of range",
               .where = "text to decode",
               .expected = "0 to " + std::to_string(impl_->vocabulary.size() - 1),
               .found = std::to_string(id)});
}

const TokenText& Tokenizer::Text(TokenId id) const {
  CheckId(id);
  return impl_->vocabulary.Text(id);
}

std::string_view Tokenizer::Bytes(TokenId id) const {
  return Text(id).bytes;
}

std::string_view Tokenizer::Name(TokenId id) const {
  CheckId(id);
  return impl_->vocabulary.Name(id);
}

const TokenDecoder& Tokenizer::decoder() const noexcept {
  return impl_->decoder;
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
