#include "lieq/container/special_tokens.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "lieq/base/error.h"
#include "lieq/container/generation_config.h"

namespace lieq {
namespace {

void AddIds(const Record& value, const std::string& where, Index vocab, std::vector<TokenId>& ids) {
  if (value.is_null()) return;
  if (value.is_array()) {
    for (const Record& each : value) AddIds(each, where, vocab, ids);
    return;
  }
  const std::int64_t id = value.is_number_integer() ? value.get<std::int64_t>() : -1;
  if (id < 0 || id >= vocab) {
    throw Error({.what = "not the id of a token",
                 .where = where,
                 .expected = "0 to " + std::to_string(vocab - 1) + ", or an array of such ids",
                 .found = value.is_number() ? value.dump() : value.type_name()});
  }
  ids.push_back(static_cast<TokenId>(id));
}

/// Of config.json, then of generation_config.json, as they stand there.
std::vector<TokenId> IdsOf(const ModelFolder& model, const std::string& key) {
  const Index vocab = model.weights.config.vocab;
  std::vector<TokenId> ids;
  AddIds(model.config.value(key, Record()), model.path.string() + ": /" + key, vocab, ids);
  const std::optional<GenerationConfig> generation = GenerationConfigOf(model);
  if (!generation || !generation->json.is_object() || !generation->json.contains(key)) return ids;
  AddIds(generation->json[key], generation->where + ": /" + key, vocab, ids);
  return ids;
}

}  // namespace

std::vector<TokenId> EndTokens(const ModelFolder& model) {
  std::vector<TokenId> ids = IdsOf(model, "eos_token_id");
  std::ranges::sort(ids);
  const auto repeated = std::ranges::unique(ids);
  ids.erase(repeated.begin(), repeated.end());
  return ids;
}

std::optional<TokenId> BeginToken(const ModelFolder& model) {
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    const std::vector<TokenId> ids = IdsOf(model, key);
    if (!ids.empty()) return ids.front();
  }
  return std::nullopt;
}

}  // namespace lieq
