// Scores from a file: rankings of other programs, or by hand.
#include <cmath>
#include <cstddef>
#include <string>

#include "lieq/base/error.h"
#include "lieq/plan/ranking_rows.h"

namespace lieq {

std::vector<double> ScoreFile(const Diagnosis& diagnosis, const RankingOptions& options) {
  if (options.file_scores.size() == diagnosis.layers.size()) return options.file_scores;
  throw Error({.what = "scores of another model",
               .where = "file of scores",
               .expected = std::to_string(diagnosis.layers.size()) + " scores, one a layer",
               .found = std::to_string(options.file_scores.size())});
}

std::vector<double> ScoresFromJson(const Json& json, const std::string& where) {
  const bool bare = json.is_array();
  if (!bare && !json.is_object()) {
    throw Error({.what = "not scores of layers",
                 .where = where,
                 .expected = "an array of numbers, or an object with \"scores\"",
                 .found = json.type_name()});
  }
  const Json& list = bare ? json : JsonObject(json, where).At("scores");
  const std::string path = where + (bare ? ": " : ": /scores");
  if (!list.is_array() || list.empty()) {
    throw Error({.what = "not scores of layers",
                 .where = bare ? where : path,
                 .expected = "an array of numbers, one a layer",
                 .found = list.is_array() ? "an empty array" : list.type_name()});
  }
  std::vector<double> scores;
  for (std::size_t i = 0; i < list.size(); ++i) {
    // A number too large for a double reads as infinite.
    if (list[i].is_number() && std::isfinite(list[i].get<double>())) {
      scores.push_back(list[i].get<double>());
      continue;
    }
    throw Error({.what = "not a score",
                 .where = path + "/" + std::to_string(i),
                 .expected = "a finite number",
                 .found = list[i].is_number() ? "one too large" : list[i].type_name()});
  }
  return scores;
}

}  // namespace lieq
