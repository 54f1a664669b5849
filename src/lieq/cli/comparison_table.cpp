// Aligned for a terminal, Markdown, CSV.
#include "lieq/cli/comparison_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>

#include "lieq/base/assert.h"
#include "lieq/pipeline/amounts.h"

namespace lieq {
namespace {

using Value = std::optional<double>;

/// What a cell shows to people, and in full; both empty where nothing is known.
struct Cell {
  std::string shown, full;
};

struct Column {
  std::string label;  // for people
  std::string key;    // the heading in CSV
  bool left = false;
  std::function<Cell(const ComparedRun&)> cell;
};

Cell Text(const std::string& text) {
  return {.shown = text, .full = text};
}

Cell Number(const Value& value, const std::function<std::string(double)>& show) {
  return value ? Cell{.shown = show(*value), .full = fmt::format("{}", *value)} : Cell{};
}

Cell Bytes(const std::optional<std::int64_t>& bytes) {
  if (!bytes) return {};
  return {.shown = FormatBytes(static_cast<double>(*bytes)), .full = std::to_string(*bytes)};
}

std::string ThreeDigits(double value) {
  return fmt::format("{:.3f}", value);
}

std::string Percent(double share) {
  return fmt::format("{:.2f}", 100 * share);
}

/// The text's name, and how it was scored where two columns share the name.
std::string Label(const ScoredOn& on, const std::vector<ScoredOn>& all) {
  const auto shares = [&](const ScoredOn& other) { return other.text == on.text; };
  if (std::ranges::count_if(all, shares) < 2) return on.text;
  std::string label =
      fmt::format("{} ({}, {} x {}", on.text, on.convention, on.windows, on.context);
  if (on.stride > 0) label += fmt::format(", stride {}", on.stride);
  // Two texts of one name scored alike differ by their content.
  const auto alike = [&](const ScoredOn& other) {
    ScoredOn same = other;
    same.hash = on.hash;
    return shares(other) && same == on;
  };
  if (std::ranges::count_if(all, alike) > 1) label += ", " + on.hash.substr(0, 8);
  return label + ")";
}

std::string Label(const ComparedTask& task, const std::vector<ComparedTask>& all) {
  const bool shared = std::ranges::count(all, task.name, &ComparedTask::name) > 1;
  return shared ? fmt::format("{} ({})", task.name, task.items) : task.name;
}

const ComparedText* Find(const ComparedRun& run, const ScoredOn& on) {
  const auto found = std::ranges::find(run.texts, on, &ComparedText::on);
  return found != run.texts.end() ? &*found : nullptr;
}

Value Shown(const ComparedRun& run, const ComparedTask& column) {
  const auto found = std::ranges::find_if(run.tasks, [&](const ComparedTask& task) {
    return task.name == column.name && task.items == column.items;
  });
  return found != run.tasks.end() ? found->shown() : std::nullopt;
}

bool IsFilled(const Column& column, const std::vector<ComparedRun>& runs) {
  return std::ranges::any_of(
      runs, [&](const ComparedRun& run) { return !column.cell(run).full.empty(); });
}

Column DistanceColumn(const ScoredOn& on, std::size_t row, std::string label, std::string key) {
  const bool share = Distances()[row].share;
  return {std::move(label), std::move(key), false, [on, row, share](const ComparedRun& run) {
            const ComparedText* text = Find(run, on);
            const bool known = text != nullptr && row < text->distances.size();
            return Number(known ? text->distances[row] : Value(), [share](double value) {
              return share ? Percent(value) : fmt::format("{:.5f}", value);
            });
          }};
}

/// whole: with every measure of the distance to a reference, of which people get tables of their
/// own.
std::vector<Column> Columns(const RunComparison& comparison, bool whole) {
  std::vector<Column> columns{
      {"name", "name", true, [](const ComparedRun& run) { return Text(run.name); }},
      {"method", "method", true, [](const ComparedRun& run) { return Text(run.method); }},
      {"allocation", "allocation", true,
       [](const ComparedRun& run) { return Text(run.allocation); }},
      {"bits", "bits_per_weight", false,
       [](const ComparedRun& run) { return Number(run.bits_per_weight, ThreeDigits); }},
      {"size", "bytes", false, [](const ComparedRun& run) { return Bytes(run.bytes); }},
      {"made in", "seconds", false,
       [](const ComparedRun& run) { return Number(run.seconds, FormatSeconds); }}};
  for (const ScoredOn& on : comparison.texts) {
    const std::string label = Label(on, comparison.texts);
    columns.push_back({label, "perplexity " + label, false, [on](const ComparedRun& run) {
                         const ComparedText* text = Find(run, on);
                         return Number(text != nullptr ? text->perplexity : Value(), ThreeDigits);
                       }});
    const auto has_kl = [&](const ComparedRun& run) {
      const ComparedText* text = Find(run, on);
      return text != nullptr && text->mean_kl;
    };
    if (std::ranges::none_of(comparison.runs, has_kl)) continue;
    columns.push_back({"KL " + label, "mean_kl " + label, false, [on](const ComparedRun& run) {
                         const ComparedText* text = Find(run, on);
                         return Number(text != nullptr ? text->mean_kl : Value(),
                                       [](double kl) { return fmt::format("{:.5f}", kl); });
                       }});
    if (!whole) continue;
    for (std::size_t row = 0; row < Distances().size(); ++row) {
      const std::string key = std::string(Distances()[row].key) + " " + label;
      Column column = DistanceColumn(on, row, key, key);
      if (IsFilled(column, comparison.runs)) columns.push_back(std::move(column));
    }
  }
  for (const ComparedTask& task : comparison.tasks) {
    const std::string label = Label(task, comparison.tasks);
    columns.push_back({label + " %", label, false, [task](const ComparedRun& run) {
                         return Number(Shown(run, task), Percent);
                       }});
  }
  if (!comparison.tasks.empty()) {
    columns.push_back({"average %", "average", false, [&comparison](const ComparedRun& run) {
                         return Number(comparison.Average(run), Percent);
                       }});
  }
  return columns;
}

/// What stands below the table for people: of a text the whole distance to the reference.
std::vector<Column> DistanceColumns(const ScoredOn& on) {
  std::vector<Column> columns{
      {"name", "name", true, [](const ComparedRun& run) { return Text(run.name); }},
      {"mean", "mean", false, [on](const ComparedRun& run) {
         const ComparedText* text = Find(run, on);
         if (text == nullptr || !text->mean_kl) return Cell{};
         const std::string error =
             text->kl_error ? fmt::format(" ± {:.5f}", *text->kl_error) : std::string();
         return Text(fmt::format("{:.5f}{}", *text->mean_kl, error));
       }}};
  for (std::size_t row = 0; row < Distances().size(); ++row) {
    columns.push_back(DistanceColumn(on, row, std::string(Distances()[row].label), ""));
  }
  return columns;
}

Value Count(std::int64_t count) {
  return static_cast<double>(count);
}

Column AnswersColumn(const char* label, const char* key,
                     std::optional<double> (*count)(const ComparedAnswers&)) {
  return {label, key, false, [count](const ComparedRun& run) {
            return Number(run.answers ? count(*run.answers) : Value(),
                          [](double number) { return fmt::format("{:.0f}", number); });
          }};
}

/// What the models answered.
std::vector<Column> AnswersColumns() {
  using Answers = const ComparedAnswers&;
  return {{"name", "name", true, [](const ComparedRun& run) { return Text(run.name); }},
          {"of", "prompts_from", true,
           [](const ComparedRun& run) { return Text(run.answers ? run.answers->source : ""); }},
          AnswersColumn("prompts", "prompts", [](Answers a) { return Count(a.prompts); }),
          AnswersColumn("empty", "empty", [](Answers a) { return Count(a.empty); }),
          AnswersColumn("repeating", "repeating", [](Answers a) { return Count(a.repeating); }),
          AnswersColumn("not end", "cut", [](Answers a) { return Count(a.cut); }),
          AnswersColumn("end missed", "missed_end", [](Answers a) { return a.missed_end; }),
          AnswersColumn("as reference", "same", [](Answers a) { return a.same; })};
}

/// A column that no run fills says nothing.
void DropEmpty(std::vector<Column>& columns, const std::vector<ComparedRun>& runs) {
  std::erase_if(columns, [&](const Column& column) { return !IsFilled(column, runs); });
}

/// More of it than its mean, which the table of all has.
bool HasDistance(const ComparedRun& run, const ScoredOn& on) {
  const ComparedText* text = Find(run, on);
  return text != nullptr && std::ranges::any_of(text->distances, &Value::has_value);
}

/// Names come from files: one line, and nothing that a terminal obeys.
std::string OneLine(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return text;
}

std::string MarkdownCell(const std::string& text) {
  std::string cell;
  for (const char c : OneLine(text)) {
    if (c == '|') cell += '\\';
    cell += c;
  }
  return cell;
}

std::string CsvField(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string field = "\"";
  for (const char c : text) {
    if (c == '"') field += '"';
    field += c;
  }
  return field + "\"";
}

std::string Csv(const RunComparison& comparison, const std::vector<Column>& columns) {
  std::string out;
  const auto line = [&](const auto& text) {
    for (std::size_t i = 0; i < columns.size(); ++i) {
      out += (i == 0 ? "" : ",") + CsvField(text(columns[i]));
    }
    out += "\r\n";
  };
  line([](const Column& column) { return column.key; });
  for (const ComparedRun& run : comparison.runs) {
    line([&](const Column& column) { return column.cell(run).full; });
  }
  return out;
}

std::string Markdown(const std::vector<ComparedRun>& runs, const std::vector<Column>& columns) {
  std::string out = "|", rule = "|";
  for (const Column& column : columns) {
    out += " " + MarkdownCell(column.label) + " |";
    rule += column.left ? " --- |" : " ---: |";
  }
  out += "\n" + rule + "\n";
  for (const ComparedRun& run : runs) {
    out += "|";
    for (const Column& column : columns) out += " " + MarkdownCell(column.cell(run).shown) + " |";
    out += "\n";
  }
  return out;
}

/// Characters, not bytes: as many columns as a terminal gives most scripts.
std::size_t Width(const std::string& text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string Aligned(const std::vector<ComparedRun>& runs, const std::vector<Column>& columns) {
  std::vector<std::vector<std::string>> lines(runs.size() + 1);
  for (const Column& column : columns) {
    lines.front().push_back(OneLine(column.label));
    for (std::size_t i = 0; i < runs.size(); ++i) {
      lines[i + 1].push_back(OneLine(column.cell(runs[i]).shown));
    }
  }
  std::vector<std::size_t> widths(columns.size(), 0);
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], Width(line[i]));
  }
  std::string out;
  for (const auto& line : lines) {
    std::string text;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string space(widths[i] - Width(line[i]), ' ');
      text += (i == 0 ? "" : "  ") + (columns[i].left ? line[i] + space : space + line[i]);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  }
  return out;
}

}  // namespace

std::string Render(const RunComparison& comparison, std::string_view format) {
  std::vector<Column> columns = Columns(comparison, format == "csv");
  if (format == "csv") {
    for (Column& column : AnswersColumns()) {
      if (column.key == "name" || !IsFilled(column, comparison.runs)) continue;
      column.key = "answers " + column.key;
      columns.push_back(std::move(column));
    }
    return Csv(comparison, columns);
  }
  LIEQ_ASSERT(format == "table" || format == "markdown");
  const auto draw = format == "markdown" ? Markdown : Aligned;
  DropEmpty(columns, comparison.runs);
  std::string out = draw(comparison.runs, columns);
  for (const ScoredOn& on : comparison.texts) {
    std::vector<ComparedRun> runs;
    std::ranges::copy_if(comparison.runs, std::back_inserter(runs),
                         [&](const ComparedRun& run) { return HasDistance(run, on); });
    if (runs.empty()) continue;
    columns = DistanceColumns(on);
    DropEmpty(columns, runs);
    out += "\nDivergence from the reference, nats a token, on " +
           OneLine(Label(on, comparison.texts)) + "\n" + (format == "markdown" ? "\n" : "") +
           draw(runs, columns);
  }
  std::vector<ComparedRun> runs;
  std::ranges::copy_if(comparison.runs, std::back_inserter(runs),
                       [](const ComparedRun& run) { return run.answers.has_value(); });
  if (runs.empty()) return out;
  columns = AnswersColumns();
  DropEmpty(columns, runs);
  return out + "\nAnswers, the likeliest token each time\n" + (format == "markdown" ? "\n" : "") +
         draw(runs, columns);
}

}  // namespace lieq
