#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lieq/cli/commands.h"
#include "lieq/pipeline/calibrate.h"

namespace lieq {
namespace {

/// Largest over mean of a unit's channels: how much is to be gained by telling them apart.
double Spread(const std::vector<double>& squares) {
  double sum = 0;
  for (const double each : squares) sum += each;
  if (sum == 0) return 1;
  return std::ranges::max(squares) * static_cast<double>(squares.size()) / sum;
}

void PrintImportance(const Importance& importance) {
  fmt::print("Largest mean square of an input channel, over the mean of all:\nlayer");
  for (const Unit unit : kAllUnits) fmt::print("  {:>8}", Name(unit));
  fmt::print("\n");
  for (std::size_t layer = 0; layer < importance.squares.size(); ++layer) {
    fmt::print("{:>5}", layer);
    for (const auto& squares : importance.squares[layer]) fmt::print("  {:>8.1f}", Spread(squares));
    fmt::print("\n");
  }
}

/// Spread of each unit, by layer.
Record Spreads(const Importance& importance) {
  Record layers = Record::array();
  for (const auto& units : importance.squares) {
    Record row;
    for (const Unit unit : kAllUnits) {
      row[std::string(Name(unit))] = Spread(units[static_cast<std::size_t>(unit)]);
    }
    layers.push_back(std::move(row));
  }
  return layers;
}

}  // namespace

int RunCalibrate(const Arguments& arguments, CommandSession& session) {
  const Calibration measured = Calibrate(arguments.run, session);
  const Importance& importance = measured.importance;
  WriteCalibration(measured, arguments.imatrix);
  if (arguments.json) {
    session.Answer({{"schema", 1},
                    {"kind", "importance"},
                    {"model", arguments.run.model.string()},
                    {"output", arguments.imatrix.string()},
                    {"tokens", importance.tokens},
                    {"windows", measured.windows},
                    {"calibration", TextRecord(measured.text)},
                    {"spread", Spreads(importance)}});
    return 0;
  }
  PrintImportance(importance);
  fmt::print("written to {}: {} tokens\n", arguments.imatrix.string(), importance.tokens);
  return 0;
}

}  // namespace lieq
