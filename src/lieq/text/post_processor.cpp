#include "lieq/text/post_processor.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

const Json& ArrayAt(const JsonObject& object, std::string_view key) {
  const Json& value = object.At(key);
  if (value.is_array()) return value;
  throw Error({.what = "wrong type of value",
               .where = object.Where(key),
               .expected = "an array",
               .found = value.type_name()});
}

std::string WhereInArray(const JsonObject& object, std::string_view key, std::size_t index) {
  return object.Where(key) + "/" + std::to_string(index);
}

std::vector<TokenId> IdsOfSpecial(const JsonObject& special, TokenId vocab) {
  std::vector<TokenId> ids;
  for (const Json& id : ArrayAt(special, "ids")) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= static_cast<std::uint64_t>(vocab)) {
      throw Error({.what = "token id is out of range",
                   .where = special.Where("ids"),
                   .expected = "0 to " + std::to_string(vocab - 1),
                   .found = id.dump(-1, ' ', false, Json::error_handler_t::replace)});
    }
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

/// The template for one text: special tokens around one sequence, "A".
Frame ReadTemplate(const JsonObject& step, TokenId vocab) {
  const Json& pieces = ArrayAt(step, "single");
  Frame frame;
  int sequences = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const JsonObject piece(pieces[i], WhereInArray(step, "single", i));
    if (piece.Has("Sequence")) {
      const std::string sequence = piece.Object("Sequence").String("id");
      if (sequence != "A") {
        throw Error({.what = "template for one text names another",
                     .where = piece.Where("Sequence/id"),
                     .expected = "A",
                     .found = Printable(sequence)});
      }
      ++sequences;
    } else {
      const std::string token = piece.Object("SpecialToken").String("id");
      const JsonObject special = step.Object("special_tokens").Object(token);
      for (const TokenId id : IdsOfSpecial(special, vocab)) {
        (sequences == 0 ? frame.before : frame.after).push_back(id);
      }
    }
  }
  if (sequences != 1) {
    throw Error({.what = "template does not hold the text once",
                 .where = step.Where("single"),
                 .expected = "one Sequence",
                 .found = std::to_string(sequences)});
  }
  return frame;
}

/// Reads `step` and what is in it. `templates` counts those that were met.
void ReadStep(const JsonObject& step, TokenId vocab, int& templates, Frame& frame) {
  const std::string type = step.String("type");
  if (type == "ByteLevel") return;  // it moves offsets, which we do not give
  if (type == "Sequence") {
    const Json& steps = ArrayAt(step, "processors");
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const JsonObject inner(steps[i], WhereInArray(step, "processors", i));
      ReadStep(inner, vocab, templates, frame);
    }
    return;
  }
  // A second template would see what the first one added as a pair of texts.
  if (type != "TemplateProcessing" || ++templates > 1) {
    throw Error({.what = "post-processor is not supported",
                 .where = step.Where("type"),
                 .expected = "ByteLevel, one TemplateProcessing, or a Sequence of them",
                 .found = templates > 1 ? "a second " + type : Printable(type)});
  }
  frame = ReadTemplate(step, vocab);
}

}  // namespace

Frame ReadFrame(const JsonObject& root, TokenId vocab) {
  Frame frame;
  int templates = 0;
  if (root.Has("post_processor")) {
    ReadStep(root.Object("post_processor"), vocab, templates, frame);
  }
  return frame;
}

}  // namespace lieq
