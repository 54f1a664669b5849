#include "lieq/text/vocabulary.h"

#include <cstddef>
#include <unordered_set>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

AddedToken ReadAddedToken(const Json& entry, const std::string& where) {
  const JsonObject token(entry, where);
  AddedToken added{.content = token.String("content"),
                   .special = token.Boolean("special", false),
                   .normalized = token.Boolean("normalized", true),
                   .strip_left = token.Boolean("lstrip", false),
                   .strip_right = token.Boolean("rstrip", false),
                   .single_word = token.Boolean("single_word", false)};
  if (added.content.empty()) {
    throw Error({.what = "added token is empty", .where = token.Where("content")});
  }
  const std::int64_t id = token.Integer("id");
  if (id < 0 || id > INT32_MAX) {
    throw Error({.what = "token id is out of range",
                 .where = token.Where("id"),
                 .expected = "0 to " + std::to_string(INT32_MAX),
                 .found = std::to_string(id)});
  }
  added.id = static_cast<TokenId>(id);
  return added;
}

}  // namespace

Vocabulary::Vocabulary(const JsonObject& root, const NormalForm& normal,
                       const TokenDecoder& decoder) {
  ReadModel(root.Object("model"), decoder);
  if (root.Has("added_tokens")) {
    ReadAdded(root.At("added_tokens"), normal, decoder, root.Where("added_tokens"));
  }
}

std::optional<TokenId> Vocabulary::Find(std::string_view name) const {
  const std::int32_t id = names_.Find(name);
  return id < 0 ? std::nullopt : std::optional<TokenId>(id);
}

std::optional<TokenId> Vocabulary::FindInModel(std::string_view name) const {
  const std::optional<TokenId> id = Find(name);
  return id && *id < model_size_ ? id : std::nullopt;
}

void Vocabulary::Append(std::string_view name, const TokenDecoder& decoder) {
  names_.Add(name);
  tokens_.push_back({.text = decoder.TextOf(name)});
}

void Vocabulary::ReadModel(const JsonObject& model, const TokenDecoder& decoder) {
  const JsonObject vocab = model.Object("vocab");
  const auto count = static_cast<std::int64_t>(vocab.value().size());
  if (count == 0 || count > INT32_MAX) {
    throw Error({.what = count == 0 ? "vocabulary is empty" : "vocabulary is too large",
                 .where = model.Where("vocab")});
  }
  // Unique ids below the count leave no holes.
  std::vector<const std::string*> names(Size(count), nullptr);
  for (auto entry = vocab.value().cbegin(); entry != vocab.value().cend(); ++entry) {
    const std::string& name = entry.key();
    const std::int64_t id = entry->is_number_unsigned() && entry->get<std::uint64_t>() <= INT32_MAX
                                ? static_cast<std::int64_t>(entry->get<std::uint64_t>())
                                : vocab.Integer(name);  // which names what is wrong
    if (id < 0 || id >= count) {
      throw Error({.what = id < 0 ? "token id is negative" : "a tokenizer with holes in its ids",
                   .where = vocab.Where(Printable(name)),
                   .expected = "0 to " + std::to_string(count - 1) + ", as there are " +
                               std::to_string(count) + " tokens",
                   .found = std::to_string(id)});
    }
    if (const std::string*& other = names[Size(id)]; other == nullptr) {
      other = &name;
    } else {
      throw Error({.what = "two tokens have one id, so others have none: a tokenizer with holes",
                   .where = vocab.Where(Printable(name)),
                   .found = std::to_string(id) + ", the id of '" + Printable(*other) + "' too"});
    }
  }
  tokens_.reserve(names.size());
  for (const std::string* name : names) Append(*name, decoder);
  model_size_ = size();
}

void Vocabulary::ReadAdded(const Json& entries, const NormalForm& normal,
                           const TokenDecoder& decoder, const std::string& where) {
  if (!entries.is_array()) {
    throw Error({.what = "wrong type of value",
                 .where = where,
                 .expected = "an array",
                 .found = entries.type_name()});
  }
  std::unordered_set<TokenId> ids;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const std::string place = where + "/" + std::to_string(i);
    AddedToken added = ReadAddedToken(entries[i], place);
    // The reference numbers added tokens by itself: the model's id if the model has the token, else
    // the next free one. A file that says otherwise would be read differently by the two of us.
    const TokenId id = Find(added.content).value_or(size());
    if (added.id != id) {
      throw Error({.what = "added token has an unexpected id",
                   .where = place + "/id",
                   .expected = std::to_string(id) +
                               (id == size() ? ", the next one: ids rise without holes"
                                             : ", the id of this token in the vocabulary"),
                   .found = std::to_string(added.id) + " for '" + Printable(added.content) + "'"});
    }
    if (!ids.insert(id).second) {
      throw Error({.what = "added token is given twice",
                   .where = place,
                   .found = "'" + Printable(added.content) + "'"});
    }
    if (id == size()) Append(added.content, decoder);
    Token& token = tokens_[Size(id)];
    token.special = token.left_out = added.special;
    if (added.normalized) {
      const std::string name = std::exchange(added.content, normal.Apply(added.content));
      token.left_out &= added.content == name;     // the reference looks for its name so
      token.text = decoder.TextOf(added.content);  // of this form: so the reference
    }
    added_.push_back(std::move(added));
  }
}

}  // namespace lieq
