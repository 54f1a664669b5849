// What every section is put together from: cards, tables, read-outs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lieq/report/html.h"
#include "lieq/report/records.h"

namespace lieq {

struct Column {
  std::string name;
  bool number = true;  // to the right
};

struct Table {
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;  // as many texts as columns
};

/// Empty where there are no rows.
[[nodiscard]] Html DrawTable(const Table& table);
/// The table behind a figure, folded.
[[nodiscard]] Html DrawNumbers(const Table& table, const std::string& summary = "Numbers");

struct Card {
  std::string title;
  std::string note = {};  // a sentence; may be empty
  Html beside = {};       // right of the title: a key
  Html body;
  bool wide = false;  // all columns of the page
};

/// Empty where the body is.
[[nodiscard]] Html DrawCard(const Card& card);

/// A command line that breaks between words: "--method" must not become "-" and "-method".
[[nodiscard]] Html DrawCommand(std::string_view command);
/// As a shell takes it: in quotes where it must be.
[[nodiscard]] std::string ShellWord(const std::string& word);

/// "–" where there is none.
[[nodiscard]] std::string ValueText(const Value& value, int digits = 4);
/// A whole number in full.
[[nodiscard]] std::string CountText(const Value& value);
/// " · name", for titles; nothing where there is no name.
[[nodiscard]] std::string Of(const std::string& run);
/// The leaves of an object with the keys that lead to them, "perplexity · text", in its order;
/// arrays joined by commas.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> Flatten(const Record& object);
/// With a capital at the start, where that is a letter of ASCII.
[[nodiscard]] std::string Capital(std::string text);
/// "a, b and 3 more".
[[nodiscard]] std::string Listed(const std::vector<std::string>& names);

}  // namespace lieq
