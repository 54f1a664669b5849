// Pages of help, the man page and the completion, all made from the table of options.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/cli/option_table.h"
#include "lieq/quantize/quantizers.h"
#include "tests/report/markup.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string_view FirstName(const OptionRow& row) {
  return row.names.substr(0, row.names.find(','));
}

/// The page as the command line gives it.
std::string PageOf(std::vector<const char*> words) {
  words.insert(words.begin(), "lieq");
  return ParseArguments(static_cast<int>(words.size()), words.data()).page;
}

/// "" where the option takes the value.
std::string Complaint(const OptionRow& row, const std::string& value) {
  Arguments arguments;
  try {
    SetOption(row, arguments, value);
  } catch (const UsageError& error) {
    return error.what();
  }
  return {};
}

TEST(Help, ShowsCommonOptionsFirstThenGroupsAndAnExample) {
  const std::string page = PageOf({"quantize", "--help"});

  EXPECT_TRUE(page.starts_with("Usage: lieq quantize MODEL [OPTIONS]\n")) << page.substr(0, 80);
  std::size_t at = 0;
  for (const char* part :
       {"\nOptions:\n", "-o, --output FOLDER", "--bits B", "\nBits:\n", "--ranking", "\nGrids:\n",
        "--grid KIND", "\nRounding:\n", "--damping D", "\nTexts:\n", "\nDamage:\n", "--refine",
        "\nMachine and messages:\n", "--threads", "\nExample:\n  lieq quantize "}) {
    const auto next = page.find(part, at);
    ASSERT_NE(next, page.npos) << part << " after " << page.substr(at, 40);
    at = next;
  }
}

TEST(Help, NamesTheProgramAndEveryOptionOnce) {
  for (const CommandRow& command : Commands()) {
    const std::string page = HelpPage(command);
    EXPECT_THAT(page, AllOf(HasSubstr("Usage: lieq " + UsageOf(command)),
                            HasSubstr("Example:\n  lieq " + std::string(command.name)),
                            Not(HasSubstr("(1x)"))));
    for (const OptionRow& row : Options()) {
      const std::string line =
          std::string(FirstName(row)) + (row.value.empty() ? "" : " ") + std::string(row.value);
      if ((row.commands & command.bit) == 0) continue;
      const std::size_t found =
          CountOf(page, "  " + line + "\n") + CountOf(page, "  " + line + " ") +
          CountOf(page, ", " + line + "\n") + CountOf(page, ", " + line + " ") +
          CountOf(page, "  " + line + "...");
      EXPECT_EQ(found, 1u) << command.name << " " << line;
    }
    for (std::size_t begin = 0; begin < page.size();) {
      const std::size_t end = page.find('\n', begin);
      EXPECT_LE(end - begin, 110u) << page.substr(begin, end - begin);
      begin = end + 1;
    }
  }
}

TEST(Help, SaysWhatOfSeveralModelsIsTaken) {
  EXPECT_THAT(PageOf({"evaluate", "--help"}), HasSubstr("Usage: lieq evaluate MODEL... [OPTIONS]"));
  EXPECT_THAT(PageOf({"plan", "diff", "--help"}), HasSubstr("Usage: lieq plan diff A B [OPTIONS]"));
  EXPECT_THAT(PageOf({"--help"}), AllOf(HasSubstr("Usage: lieq COMMAND"), HasSubstr("plan diff")));
}

TEST(Help, DescribesTheOutputOfEachCommand) {
  std::set<std::string> seen;
  for (const OptionRow& row : Options()) {
    if (!row.names.starts_with("--output")) continue;
    EXPECT_TRUE(std::has_single_bit(row.commands));
    EXPECT_TRUE(seen.insert(std::string(row.help)).second) << row.help;
  }
  EXPECT_GE(seen.size(), 7u);
}

TEST(Defaults, AreWhatHelpSays) {
  int shown = 0;
  for (const OptionRow& row : Options()) {
    if (row.preset == nullptr) continue;
    const std::string text = row.preset(Arguments{});
    EXPECT_THAT(HelpOf(row), HasSubstr("(default " + text + ")")) << row.names;
    EXPECT_EQ(CountOf(HelpOf(row), "(default"), 1u) << HelpOf(row);
    ++shown;
    if (text.find(';') != text.npos) continue;  // of several methods
    // Giving the default changes nothing.
    Arguments arguments;
    ASSERT_NO_THROW(SetOption(row, arguments, text)) << row.names << " " << text;
    EXPECT_EQ(row.preset(arguments), text) << row.names;
  }
  EXPECT_GE(shown, 40);
}

TEST(Defaults, OfStudiesAreTheirOwn) {
  for (const OptionRow& row : Options()) {
    if (row.names != "--methods") continue;
    EXPECT_EQ(row.preset(Arguments{}), Arguments{}.study.methods.front());
    EXPECT_THAT(PageOf({"study", "--help"}),
                HasSubstr("(default " + Arguments{}.study.methods.front()));
  }
}

TEST(Defaults, OfAMethodComeFromItsRow) {
  for (const OptionRow& row : Options()) {
    if (row.names == "--rounds") {
      EXPECT_THAT(HelpOf(row), HasSubstr("(default 4; rtn 0;"));
    }
    if (row.names == "--drift") {
      EXPECT_THAT(HelpOf(row), HasSubstr("(default 0.5,1; rtn 0;"));
    }
  }
}

TEST(Choices, AreAllTaken) {
  for (const OptionRow& row : Options()) {
    if (row.choices == nullptr || row.open) continue;
    for (const std::string& choice : row.choices()) {
      Arguments arguments;
      EXPECT_NO_THROW(SetOption(row, arguments, choice)) << row.names << " " << choice;
    }
  }
}

TEST(Choices, AreSuggestedForWordsCloseToThem) {
  for (const OptionRow& row : Options()) {
    if (row.choices == nullptr || row.open) continue;
    const std::vector<std::string> choices = row.choices();
    for (const std::string& choice : choices) {
      if (choice.size() < 5) continue;
      std::string misspelt = choice;
      misspelt.erase(choice.size() / 2, 1);
      if (std::ranges::find(choices, misspelt) != choices.end()) continue;
      EXPECT_THAT(Complaint(row, misspelt),
                  AllOf(HasSubstr(std::string(FirstName(row)) + ": expected "),
                        HasSubstr("found '" + misspelt + "'"), HasSubstr("did you mean '")))
          << row.names << " " << misspelt;
    }
    EXPECT_THAT(Complaint(row, "zzzzzzzzzzzz"), Not(HasSubstr("did you mean"))) << row.names;
  }
}

TEST(ManPage, SaysEachOptionOnce) {
  const std::string page = ManPage();
  EXPECT_EQ(CountOf(page, ".SH COMMON OPTIONS\n"), 1u);
  for (const char* name : {"--method", "--group-size", "--calibration", "--kernels", "--json",
                           "--ranking", "--damage-windows"}) {
    std::string line = ".B ";
    for (const char* c = name; *c != 0; ++c) line += *c == '-' ? "\\-" : std::string(1, *c);
    EXPECT_EQ(CountOf(page, line + " ") + CountOf(page, line + "\n"), 1u) << name;
    EXPECT_GT(page.find(line + " \\fI"), page.find(".SH COMMON OPTIONS")) << name;
  }
  EXPECT_THAT(page, AllOf(HasSubstr("Of all commands."), HasSubstr("Of plan and quantize."),
                          HasSubstr("Common options: ")));
}

/// What bash would offer for the last of the words.
class Completion : public testing::Test {
 protected:
  std::vector<std::string> Offers(const std::string& words) {
    const std::string script = (folder / "lieq.bash").string();
    WriteText(script, BashCompletion());
    const std::string command = "cd '" + folder.path().string() +
                                "' && bash -c 'source lieq.bash; " + "COMP_WORDS=(" + words +
                                "); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); " +
                                "_lieq; printf \"%s\\n\" \"${COMPREPLY[@]}\"'";
    std::vector<std::string> offers;
    FILE* pipe = popen(command.c_str(), "r");
    std::array<char, 4096> line{};
    while (std::fgets(line.data(), line.size(), pipe) != nullptr) {
      std::string text(line.data());
      text.pop_back();
      if (!text.empty()) offers.push_back(text);
    }
    EXPECT_EQ(pclose(pipe), 0);
    return offers;
  }

  TempFolder folder;
};

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(Completion, OffersValuesFromTheRows) {
  EXPECT_THAT(Offers("lieq quantize m --method be"), ElementsAre("best"));
  EXPECT_THAT(Offers("lieq quantize m --method \"\"").size(), Quantizers().size());
  EXPECT_THAT(Offers("lieq export m --to = gg"), ElementsAre("gguf"));  // --to=gg in bash's words
  EXPECT_THAT(Offers("lieq export m --to ="), Contains("gptq"));
  EXPECT_THAT(Offers("lieq plan m --for ml"), ElementsAre("mlx"));
  EXPECT_THAT(Offers("lieq quantize m --grid q"),
              ElementsAre("q2_k", "q3_k", "q4_k", "q5_k", "q6_k"));
  EXPECT_THAT(Offers("lieq quantize m --offset h"), ElementsAre("half"));
  EXPECT_THAT(Offers("lieq plan m --ranking comp"), Contains("compactness"));
  EXPECT_THAT(Offers("lieq quantize m --allocation o"), ElementsAre("optimal"));
  EXPECT_THAT(Offers("lieq quantize m --transform rotate,per"), ElementsAre("rotate,permute"));
  EXPECT_THAT(Offers("lieq study la"), ElementsAre("layers"));
  EXPECT_THAT(Offers("lieq quantize m --bits \"\""), IsEmpty());
}

TEST_F(Completion, OffersFilesAndFoldersElsewhere) {
  WriteText(folder / "plan.json", "{}");
  std::filesystem::create_directory(folder / "places");

  EXPECT_THAT(Offers("lieq quantize m --plan pla"), ElementsAre("places", "plan.json"));
  EXPECT_THAT(Offers("lieq quantize m --codes pla"), ElementsAre("places"));
  EXPECT_THAT(Offers("lieq inspect pl"), ElementsAre("places", "plan.json"));
  EXPECT_THAT(Offers("lieq quantize m --calibration pl"), ElementsAre("places", "plan.json"));
  EXPECT_THAT(Offers("lieq quantize m --calibration se"), ElementsAre("self"));
  EXPECT_THAT(Offers("lieq quan"), ElementsAre("quantize"));
  EXPECT_THAT(Offers("lieq quantize m --group"), ElementsAre("--group-size"));
}

}  // namespace
}  // namespace lieq
