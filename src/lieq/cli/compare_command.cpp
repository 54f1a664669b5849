#include <fmt/format.h>

#include <algorithm>

#include "lieq/cli/commands.h"
#include "lieq/cli/model_sizes.h"
#include "lieq/cli/terminal.h"
#include "lieq/report/comparison.h"
#include "lieq/report/gather.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

using Cells = std::vector<std::string>;

std::string Figure(Measure measure, const Value& value) {
  if (!value) return "";
  switch (measure) {
    case Measure::kBits:
      return fmt::format("{:.3f}", *value);
    case Measure::kBytes:
      return FormatBytes(*value);
    case Measure::kSeconds:
      return fmt::format("{:.0f}", *value);
    case Measure::kPerplexity:
      return fmt::format("{:.3f}", *value);
    case Measure::kDivergence:
      return fmt::format("{:.4f}", *value);
    case Measure::kShare:
      return fmt::format("{:.2f} %", 100 * *value);
  }
  return "";
}

/// The heading and a row for each model; `exact`: numbers as they are, for programs.
std::vector<Cells> CellsOf(const Comparison& comparison, bool exact) {
  std::vector<Cells> grid{{"model", "method"}};
  for (const ComparedColumn& column : comparison.columns) grid[0].push_back(column.name);
  for (std::size_t row = 0; row < comparison.models.size(); ++row) {
    Cells cells{comparison.models[row], comparison.methods[row]};
    for (const ComparedColumn& column : comparison.columns) {
      const Value& value = column.values[row];
      cells.push_back(!exact  ? Figure(column.measure, value)
                      : value ? fmt::format("{}", *value)
                              : "");
    }
    grid.push_back(std::move(cells));
  }
  return grid;
}

/// Code points, which is what terminals show of our texts.
std::size_t Width(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

/// A model a line gets too wide with many figures: figures in rows, models in columns.
void PrintTable(const std::vector<Cells>& grid) {
  std::vector<std::size_t> widths;
  for (const Cells& model : grid) {
    std::size_t width = 0;
    for (const std::string& cell : model) width = std::max(width, Width(cell));
    widths.push_back(width);
  }
  for (std::size_t line = 0; line < grid[0].size(); ++line) {
    std::string text;
    for (std::size_t model = 0; model < grid.size(); ++model) {
      const std::string& cell = grid[model][line];
      const std::string space(widths[model] - Width(cell), ' ');
      text += model == 0 ? cell + space : "  " + space + cell;
    }
    fmt::print("{}\n", text);
  }
}

void PrintMarkdown(const std::vector<Cells>& grid) {
  for (std::size_t row = 0; row < grid.size(); ++row) {
    std::string line = "|";
    for (const std::string& cell : grid[row]) {
      line += ' ';
      for (const char c : cell) line += c == '|' ? std::string("\\|") : std::string(1, c);
      line += " |";
    }
    fmt::print("{}\n", line);
    if (row > 0) continue;
    line = "|---|---|";
    for (std::size_t i = 2; i < grid[0].size(); ++i) line += "---:|";
    fmt::print("{}\n", line);
  }
}

/// RFC 4180.
void PrintCsv(const std::vector<Cells>& grid) {
  for (const Cells& row : grid) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += ',';
      if (row[i].find_first_of(",\"\r\n") == std::string::npos) {
        line += row[i];
        continue;
      }
      line += '"';
      for (const char c : row[i]) line += c == '"' ? std::string("\"\"") : std::string(1, c);
      line += '"';
    }
    fmt::print("{}\r\n", line);
  }
}

Record ToJson(const Comparison& comparison) {
  Record rows = Record::array();
  for (std::size_t row = 0; row < comparison.models.size(); ++row) {
    Record figures = Record::object();
    for (const ComparedColumn& column : comparison.columns) {
      if (column.values[row]) figures[column.name] = *column.values[row];
    }
    Record record{{"model", comparison.models[row]}};
    if (!comparison.methods[row].empty()) record["method"] = comparison.methods[row];
    record["figures"] = std::move(figures);
    rows.push_back(std::move(record));
  }
  return {{"schema", 1}, {"kind", "comparison"}, {"rows", std::move(rows)}};
}

/// Whether a model lies there that no record of ours speaks of.
bool IsPlainModel(const fs::path& run) {
  if (!fs::is_directory(run)) return run.extension() == ".gguf";
  return fs::exists(run / "config.json") && !fs::exists(run / "lieq.json");
}

}  // namespace

int RunCompare(const Arguments& arguments, Session& session) {
  std::vector<OpenedModel> opened;
  std::vector<fs::path> recorded;
  for (const fs::path& run : arguments.runs) {
    if (!IsPlainModel(run)) {
      recorded.push_back(run);
      continue;
    }
    const ModelSizes sizes = MeasureSizes(OpenModel(run));
    opened.push_back(
        {fs::weakly_canonical(run).filename().string(), sizes.BitsPerWeight(), sizes.bytes});
    if (!fs::is_directory(run)) continue;
    for (const auto& entry : fs::directory_iterator(run)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("eval") && name.ends_with(".json")) recorded.push_back(entry.path());
    }
  }
  std::vector<std::string> skipped;
  const std::vector<ReportInput> inputs = GatherRecords(recorded, skipped);
  for (const std::string& file : skipped) {
    session.log().Warning(fmt::format("{} is no record of this program; left out", file));
  }
  const Comparison comparison = Compare(ReadRecords(inputs), opened);
  if (arguments.json || arguments.format == "json") {
    session.Answer(ToJson(comparison));
  } else if (arguments.format == "csv") {
    PrintCsv(CellsOf(comparison, true));
  } else if (arguments.format == "markdown") {
    PrintMarkdown(CellsOf(comparison, false));
  } else {
    PrintTable(CellsOf(comparison, false));
  }
  return 0;
}

}  // namespace lieq
