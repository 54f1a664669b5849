#include "lieq/text/rows.h"

#include <algorithm>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/text/gzip.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

void DropByteOrderMark(std::string_view& content) {
  if (content.starts_with("\xEF\xBB\xBF")) content.remove_prefix(3);
}

/// A place in CSV text.
class CsvReader {
 public:
  CsvReader(std::string_view content, const std::string& where) : rest_(content), where_(where) {}

  [[nodiscard]] bool done() const noexcept { return rest_.empty(); }

  /// The next record, behind whose end the reader then stands.
  std::vector<std::string> Record() {
    std::vector<std::string> fields;
    do {
      fields.push_back(rest_.starts_with('"') ? Quoted() : Plain());
    } while (Take(','));
    Take('\r');
    if (!rest_.empty() && !Take('\n')) {
      throw Error({.what = "a field goes on behind its closing quote",
                   .where = where_ + ":" + std::to_string(line_),
                   .expected = "a comma or the end of the line"});
    }
    ++line_;
    return fields;
  }

 private:
  bool Take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  std::string Plain() {
    const std::size_t end = std::min(rest_.find_first_of(",\r\n"), rest_.size());
    std::string field(rest_.substr(0, end));
    rest_.remove_prefix(end);
    return field;
  }

  std::string Quoted() {
    const std::size_t begin = line_;
    rest_.remove_prefix(1);
    std::string field;
    for (;;) {
      const std::size_t end = rest_.find('"');
      if (end == std::string_view::npos) {
        throw Error({.what = "a quoted field has no end",
                     .where = where_ + ":" + std::to_string(begin),
                     .expected = "a closing double quote"});
      }
      const std::string_view part = rest_.substr(0, end);
      line_ += static_cast<std::size_t>(std::ranges::count(part, '\n'));
      field += part;
      rest_.remove_prefix(end + 1);
      if (!Take('"')) return field;
      field += '"';
    }
  }

  std::string_view rest_;
  const std::string& where_;
  std::size_t line_ = 1;
};

}  // namespace

bool IsJsonLines(const std::filesystem::path& path) {
  const std::filesystem::path name = path.extension() == ".gz" ? path.stem() : path;
  return name.extension() == ".jsonl" || name.extension() == ".ndjson";
}

std::string ReadPlain(const std::filesystem::path& path, std::uint64_t limit) {
  std::string content = ReadText(path, limit);
  return IsGzip(content) ? Gunzip(content, limit, path.string()) : content;
}

std::string_view TakeLine(std::string_view& rest) {
  const std::size_t end = rest.find('\n');
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

void ForJsonRows(std::string_view content, const std::string& where,
                 const std::function<void(const Json&, const std::string&)>& see) {
  DropByteOrderMark(content);
  for (std::size_t number = 1; !content.empty(); ++number) {
    const std::string_view line = TakeLine(content);
    if (line.find_first_not_of(" \t\r\v\f") == std::string_view::npos) continue;
    const std::string place = where + ":" + std::to_string(number);
    see(ParseJson(line, place), place);
  }
}

std::vector<std::vector<std::string>> ParseCsv(std::string_view content, const std::string& where) {
  DropByteOrderMark(content);
  std::vector<std::vector<std::string>> records;
  for (CsvReader reader(content, where); !reader.done();) records.push_back(reader.Record());
  return records;
}

std::vector<TableRow> ReadRows(const std::filesystem::path& path,
                               const std::vector<std::string>& columns, std::size_t limit) {
  const std::string content = ReadPlain(path), where = path.string();
  std::vector<TableRow> rows;
  const auto full = [&] { return limit > 0 && rows.size() == limit; };
  if (IsJsonLines(path)) {
    ForJsonRows(content, where, [&](const Json& row, const std::string& place) {
      if (!full()) rows.push_back({row, place});
    });
    return rows;
  }
  std::vector<std::string> names = columns;
  std::string storage;
  const auto records = ParseCsv(ToValidUtf8(content, storage), where);
  for (std::size_t r = 0; r < records.size() && !full(); ++r) {
    if (names.empty()) {
      names = records[r];
      continue;
    }
    const std::string place = where + ": record " + std::to_string(r + 1);
    if (records[r].size() != names.size()) {
      throw Error({.what = "a record has another number of fields",
                   .where = place,
                   .expected = std::to_string(names.size()),
                   .found = std::to_string(records[r].size())});
    }
    Json fields = Json::object();
    for (std::size_t i = 0; i < names.size(); ++i) fields[names[i]] = records[r][i];
    rows.push_back({std::move(fields), place});
  }
  return rows;
}

}  // namespace lieq
