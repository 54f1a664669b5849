// Parts of a run (docs/parts.md): one computed, or all put together.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "lieq/cli/commands.h"
#include "lieq/pipeline/part_ledger.h"

namespace lieq {
namespace {

/// An option that a part may be given otherwise than another: what it comes to is the same, or the
/// settings of the pieces say it.
struct OwnOption {
  std::string_view name;
  bool has_value;
};
constexpr std::array kOwnOptions{
    OwnOption{"--part", true},   OwnOption{"--threads", true}, OwnOption{"-t", true},
    OwnOption{"--cache", true},  OwnOption{"--device", true},  OwnOption{"--device-memory", true},
    OwnOption{"--quiet", false}, OwnOption{"-q", false},       OwnOption{"--verbose", false},
    OwnOption{"-v", false},      OwnOption{"--json", false},   OwnOption{"--output", true},
    OwnOption{"-o", true},
};

/// The command line of the whole run.
std::vector<std::string> WholeWords(const std::vector<std::string>& words) {
  std::vector<std::string> whole;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    std::string_view name = word.substr(0, word.find('='));
    if (word.starts_with("-t") && word.size() > 2) continue;  // -t4
    const auto* own = std::ranges::find(kOwnOptions, name, &OwnOption::name);
    if (own == kOwnOptions.end()) {
      whole.push_back(i == 0 ? "lieq" : words[i]);  // wherever the program lies
    } else if (own->has_value && name == word) {
      ++i;
    }
  }
  return whole;
}

}  // namespace

int RunPart(const Arguments& arguments, CommandSession& session,
            int (*run)(const Arguments&, CommandSession&)) {
  if (arguments.run.output.empty()) {
    throw UsageError("a part is written beside the output: name that with -o");
  }
  if (arguments.run.dry_run) throw UsageError("--dry-run says what the whole run takes: no --part");
  PartLedger ledger(*arguments.part, WholeWords(arguments.words), arguments.run.output);
  session.Share(ledger, ledger);
  Arguments plain = arguments;
  plain.json = false;
  try {
    (void)run(plain, session);
  } catch (...) {
    ledger.Save(false);  // what is finished is kept
    throw;
  }
  ledger.Save(true);
  const std::string name =
      fmt::format("part {} of {}", arguments.part->index, arguments.part->count);
  if (arguments.json) {
    session.Answer({{"kind", "part"}, {"part", name}, {"file", ledger.file().string()}});
  } else {
    fmt::print("{} written to {}\n", name, ledger.file().string());
  }
  return 0;
}

int RunMerge(const Arguments& arguments, CommandSession& session) {
  PartLedger ledger(arguments.parts);
  std::vector<std::string> words = ledger.words();
  words.push_back("--output=" +
                  (arguments.run.output.empty() ? ledger.output() : arguments.run.output.string()));
  std::vector<const char*> pointers;
  for (const std::string& word : words) pointers.push_back(word.c_str());
  Arguments whole = ParseArguments(static_cast<int>(pointers.size()), pointers.data());
  whole.json = arguments.json;
  session.Share(ledger, ledger);
  return RunCommand(whole, session);
}

}  // namespace lieq
