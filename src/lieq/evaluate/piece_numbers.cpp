#include "lieq/evaluate/piece_numbers.h"

#include <limits>

#include "lieq/base/error.h"
#include "lieq/io/json.h"

namespace lieq {

std::string PieceOfNumbers(std::span<const std::vector<double>> rows) {
  Json json = Json::array();
  for (const std::vector<double>& row : rows) json.push_back(row);
  return json.dump();
}

std::vector<std::vector<double>> NumbersOfPiece(std::string_view piece,
                                                std::span<const std::size_t> lengths,
                                                const std::string& key) {
  const auto refuse = [&](const std::string& expected, const std::string& found) {
    throw Error({.what = "a piece of another form than this work's",
                 .where = key,
                 .expected = expected,
                 .found = found,
                 .hint = "compute the part again, by the command that the others were made by"});
  };
  const Json json = ParseJson(piece, key);
  if (!json.is_array() || json.size() != lengths.size()) {
    refuse(std::to_string(lengths.size()) + " rows",
           json.is_array() ? std::to_string(json.size()) : "no array");
  }
  std::vector<std::vector<double>> rows;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const Json& row = json[i];
    if (!row.is_array() || row.size() != lengths[i]) {
      refuse(std::to_string(lengths[i]) + " numbers in row " + std::to_string(i),
             row.is_array() ? std::to_string(row.size()) : "no array");
    }
    std::vector<double>& numbers = rows.emplace_back();
    for (const Json& value : row) {
      if (!value.is_number() && !value.is_null()) refuse("numbers", "something else");
      numbers.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                        : value.get<double>());
    }
  }
  return rows;
}

}  // namespace lieq
