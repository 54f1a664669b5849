#include "lieq/container/gguf_sentencepiece.h"

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

bool BeginsCharacter(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0u) != 0x80u;
}

std::size_t Characters(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, BeginsCharacter));
}

using Numbers = std::unordered_map<std::string_view, std::size_t>;

Numbers NumbersOf(std::span<const std::string> tokens) {
  Numbers numbers;
  for (std::size_t id = 0; id < tokens.size(); ++id) numbers.emplace(tokens[id], id);
  return numbers;
}

/// Calls `see` with both parts for all ways to cut `token` into two tokens.
template <typename See>
void ForCuts(std::string_view token, const Numbers& numbers, const See& see) {
  for (std::size_t at = 1; at < token.size(); ++at) {
    if (!BeginsCharacter(token[at])) continue;
    const std::string_view left = token.substr(0, at), right = token.substr(at);
    if (numbers.contains(left) && numbers.contains(right)) see(left, right);
  }
}

[[noreturn]] void RefuseForm(const JsonObject& root, std::string_view key, std::string found) {
  throw Error({.what = "the tokenizer does something to a text that llama.cpp has no name for",
               .where = root.Where(key),
               .expected = "spaces written as '" + std::string(kSpaceMark) +
                           "', one put before a text or none, and no words cut",
               .found = Printable(found, 160)});
}

/// Whether a step writes spaces as marks; Prepend and a Sequence of both count too.
struct Normalizing {
  bool prefix = false;
  bool marks = false;

  bool Read(const Json& step) {
    if (!step.is_object()) return false;
    const Json type = step.value("type", Json());
    if (type == "Sequence" && step.contains("normalizers") && step["normalizers"].is_array()) {
      return std::ranges::all_of(step["normalizers"], [&](const Json& each) { return Read(each); });
    }
    if (marks) return false;
    if (type == "Prepend" && step.value("prepend", Json()) == kSpaceMark && !prefix) {
      return prefix = true;
    }
    marks = type == "Replace" && step.value("content", Json()) == kSpaceMark &&
            step.value("pattern", Json()) == Json{{"String", " "}};
    return marks;
  }
};

/// Reads /normalizer and /pre_tokenizer.
void ReadForm(const JsonObject& root, SentencePiece& form) {
  const Json normalizer = root.value().value("normalizer", Json());
  const Json splitter = root.value().value("pre_tokenizer", Json());
  if (normalizer.is_null() && splitter.is_object() &&
      splitter.value("type", Json()) == "Metaspace") {
    const JsonObject metaspace(splitter, root.Where("pre_tokenizer"));
    if (metaspace.Boolean("split", true) || metaspace.String("replacement") != kSpaceMark) {
      RefuseForm(root, "pre_tokenizer", splitter.dump());
    }
    const bool older = metaspace.Boolean("add_prefix_space", true);
    form.prefix = older && metaspace.String("prepend_scheme", "always") != "never";
    if (form.prefix) {
      form.note =
          "llama.cpp puts a space before every part of a text between special tokens, and before "
          "spaces too; the model's own tokenizer does so less often";
    }
    return;
  }
  Normalizing steps;
  if (!steps.Read(normalizer) || !steps.marks) {
    RefuseForm(root, "normalizer", normalizer.dump());
  }
  form.prefix = steps.prefix;
  // With spaces gone there is nothing left that this step finds.
  const bool idle = splitter.is_object() && splitter.value("type", Json()) == "Split" &&
                    splitter.value("pattern", Json()) == Json{{"String", " "}} &&
                    splitter.value("invert", Json(false)) == false;
  if (!splitter.is_null() && !idle) RefuseForm(root, "pre_tokenizer", splitter.dump());
}

bool IsByteLevel(const Json& splitter) {
  if (!splitter.is_object()) return false;
  if (splitter.value("type", Json()) == "ByteLevel") return true;
  const Json steps = splitter.value("pretokenizers", Json());
  return steps.is_array() && std::ranges::any_of(steps, IsByteLevel);
}

/// The parts of a merge, "left right" or ["left", "right"].
std::pair<std::string, std::string> PartsOf(const Json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  const std::string text = merge.is_string() ? merge.get<std::string>() : std::string();
  const std::size_t space = text.find(' ');
  if (space == std::string::npos) return {text, ""};
  return {text.substr(0, space), text.substr(space + 1)};
}

/// First and last rank of the merges that make a token.
struct Ranks {
  std::size_t first = kNone;
  std::size_t last = 0;
  std::size_t count = 0;
};

bool IsOfOneCharacter(std::string_view text) {
  std::size_t bytes = 1;
  while (bytes < text.size() && !BeginsCharacter(text[bytes])) ++bytes;
  return text.substr(bytes) == text.substr(0, text.size() - bytes);
}

}  // namespace

Json MergesByScore(std::span<const std::string> tokens, std::span<const double> scores,
                   std::span<const std::uint8_t> made) {
  struct Merge {
    std::size_t token;
    std::string_view left, right;
    std::size_t characters;  // of `left`
  };
  const Numbers numbers = NumbersOf(tokens);
  std::vector<Merge> merges;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (made[id] == 0) continue;
    ForCuts(tokens[id], numbers, [&](std::string_view left, std::string_view right) {
      merges.push_back({id, left, right, Characters(left)});
    });
  }
  std::ranges::stable_sort(merges, [&](const Merge& a, const Merge& b) {
    const double x = scores[a.token], y = scores[b.token];
    return x > y || (x == y && a.characters > b.characters);
  });
  Json pairs = Json::array();
  for (const Merge& merge : merges) {
    pairs.push_back({std::string(merge.left), std::string(merge.right)});
  }
  return pairs;
}

void SetCharacterBpe(Json& document, bool prefix, const std::string& unknown, Json vocab,
                     Json merges) {
  const Json space{{"String", " "}}, mark{{"String", kSpaceMark}};
  const Json marks{{"type", "Replace"}, {"pattern", space}, {"content", kSpaceMark}};
  Json decoders = Json::array({{{"type", "Replace"}, {"pattern", mark}, {"content", " "}},
                               {{"type", "ByteFallback"}},
                               {{"type", "Fuse"}}});
  document["normalizer"] = marks;
  if (prefix) {
    document["normalizer"] = {
        {"type", "Sequence"},
        {"normalizers", Json::array({{{"type", "Prepend"}, {"prepend", kSpaceMark}}, marks})}};
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  document["pre_tokenizer"] = nullptr;
  document["decoder"] = {{"type", "Sequence"}, {"decoders", std::move(decoders)}};
  document["model"] = {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", unknown.empty() ? Json() : Json(unknown)},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", true},
                       {"byte_fallback", true},
                       {"ignore_merges", false},
                       {"vocab", std::move(vocab)},
                       {"merges", std::move(merges)}};
}

bool IsByteName(std::string_view name) {
  return name.size() == 6 && name.starts_with("<0x") && name.back() == '>' &&
         name.substr(3, 2).find_first_not_of("0123456789ABCDEF") == std::string_view::npos;
}

std::optional<SentencePiece> SentencePieceOf(const JsonObject& root,
                                             std::span<const std::string> tokens,
                                             std::span<const std::uint8_t> made) {
  if (IsByteLevel(root.value().value("pre_tokenizer", Json()))) return std::nullopt;
  SentencePiece form;
  ReadForm(root, form);
  const JsonObject model = root.Object("model");
  for (const char* key : {"ignore_merges", "byte_fallback"}) {
    const bool wanted = std::string_view(key) == "byte_fallback";
    if (model.Boolean(key, false) == wanted) continue;
    throw Error({.what = "option of the tokenizer is not llama.cpp's",
                 .where = model.Where(key),
                 .expected = wanted ? "true" : "false",
                 .found = wanted ? "false" : "true"});
  }

  const Numbers numbers = NumbersOf(tokens);
  std::vector<Ranks> ranks(tokens.size());
  std::size_t rank = 0;
  for (const Json& merge : model.At("merges")) {
    const auto [left, right] = PartsOf(merge);
    const auto token = numbers.find(left + right);
    if (token != numbers.end() && numbers.contains(left) && numbers.contains(right)) {
      Ranks& its = ranks[token->second];
      its.first = std::min(its.first, rank);
      its.last = rank;
      ++its.count;
    }
    ++rank;
  }

  std::vector<std::size_t> order;  // of the tokens that are made, by rank
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    std::size_t cuts = 0;
    if (made[id] == 0) continue;  // found in the text before merges are looked at
    ForCuts(tokens[id], numbers, [&](auto, auto) { ++cuts; });
    if (cuts != ranks[id].count) {
      throw Error({.what = "llama.cpp would make a token that the tokenizer's merges do not",
                   .where = model.Where("merges"),
                   .expected = "a merge for each of the " + std::to_string(cuts) +
                               " ways to make '" + Printable(tokens[id], 60) + "'",
                   .found = std::to_string(ranks[id].count)});
    }
    if (ranks[id].count > 0) order.push_back(id);
  }
  std::ranges::sort(order, {}, [&](std::size_t id) { return ranks[id].first; });
  form.scores.assign(tokens.size(), 0.0F);
  std::size_t last = kNone;  // the token before, of which `end` is the last rank of it or its like
  std::size_t end = 0;
  for (const std::size_t id : order) {
    form.scores[id] = -static_cast<float>(ranks[id].first);
    if (last != kNone && ranks[id].first < end) {
      // Scores cannot say that merges of two tokens take turns. Of runs of one character it is all
      // the same: they grow from the left.
      if (!IsOfOneCharacter(tokens[id]) || !IsOfOneCharacter(tokens[last])) {
        throw Error({.what = "merges of two tokens take turns, which llama.cpp's scores cannot say",
                     .where = model.Where("merges"),
                     .found = "'" + Printable(tokens[last], 60) + "' and '" +
                              Printable(tokens[id], 60) + "'"});
      }
      form.scores[id] = form.scores[last];
    }
    end = std::max(end, ranks[id].last);
    last = id;
  }
  return form;
}

}  // namespace lieq
