// Texts as commands take them: what is refused, what is changed with a word, and what is recorded.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using namespace std::string_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

namespace fs = std::filesystem;

class Texts : public testing::Test {
 protected:
  Texts() {
    MakeTinyModel(folder / "model", {.layers = 2});
    WriteText(folder / "lf.txt", Lines("\n"));
    WriteText(folder / "crlf.txt", Lines("\r\n"));
  }

  static std::string Lines(const std::string& end) {
    std::string text;
    for (int i = 0; i < 300; ++i) text += "line " + std::to_string(i * i % 97) + " of a text" + end;
    return text;
  }
  Outcome Lieq(std::vector<std::string> words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }
  std::vector<std::string> Quantize(const std::string& out, const std::string& text,
                                    const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"quantize",      Path("model"), "-o",        Path(out),
                                   "--calibration", Path(text),    "--uniform", "2",
                                   "--context",     "64",          "--samples", "8",
                                   "--group-size",  "32"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Json Evaluate(const std::string& text, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"evaluate", Path("model"), "--text", Path(text), "--context",
                                   "64",       "--samples",   "4",      "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    err = outcome.err;
    return ParseJson(outcome.out, "stdout");
  }

  TempFolder folder;
  std::string err;
};

TEST_F(Texts, AreRefusedByEveryCommandWhereTheyAreNoText) {
  WriteText(folder / "wide.txt",
            "\xFF\xFE"
            "a\0b\0\n\0"s);
  WriteText(folder / "t.zip", "PK\x03\x04"s + std::string(100, '\0'));
  const std::vector<std::vector<std::string>> commands{
      {"evaluate", Path("model"), "--text", "FILE"},
      {"quantize", Path("model"), "-o", Path("out"), "--calibration", "FILE"},
      {"quantize", Path("model"), "-o", Path("out"), "--bpw", "3", "--text", "FILE"},
      {"plan", Path("model"), "-o", Path("out"), "--calibration", "FILE"},
      {"sensitivity", Path("model"), "-o", Path("out"), "--text", "FILE"},
      {"diagnose", Path("model"), "-o", Path("out"), "--calibration", "FILE"},
      {"diagnose", Path("model"), "-o", Path("out"), "--second-text", "FILE"},
      {"diagnose", Path("model"), "-o", Path("out"), "--text", "FILE"},
      {"calibrate", Path("model"), "--imatrix", Path("out"), "--calibration", "FILE"},
      {"study", "layers", Path("model"), "-o", Path("out"), "--texts", "FILE"},
      {"generate", Path("model"), "--prompt-file", "FILE"}};
  for (const auto& [file, name] :
       std::vector<std::pair<std::string, std::string>>{{"wide.txt", "UTF-16"}, {"t.zip", "zip"}}) {
    for (std::vector<std::string> words : commands) {
      std::ranges::replace(words, "FILE", Path(file));
      const Outcome outcome = Lieq(words);
      EXPECT_EQ(outcome.exit, 3) << words[0] << outcome.err;
      EXPECT_THAT(outcome.err, HasSubstr(Path(file) + ": not UTF-8 text")) << words[0];
      EXPECT_THAT(outcome.err, HasSubstr(name)) << words[0];
      EXPECT_THAT(outcome.err, HasSubstr("try:")) << words[0];
    }
  }
}

TEST_F(Texts, GiveTheSameModelWithCrlfAndWithLfUnlessLineEndsAreKept) {
  ASSERT_EQ(Lieq(Quantize("lf", "lf.txt", {"-q"})).exit, 0);
  const Outcome translated = Lieq(Quantize("crlf", "crlf.txt"));
  ASSERT_EQ(translated.exit, 0) << translated.err;
  ASSERT_EQ(Lieq(Quantize("kept", "crlf.txt", {"-q", "--line-ends", "keep"})).exit, 0);

  const auto weights = [&](const std::string& out) {
    return ReadText(folder / out / "model.safetensors");
  };
  EXPECT_EQ(weights("lf"), weights("crlf"));
  EXPECT_NE(weights("lf"), weights("kept"));
  EXPECT_THAT(translated.err, HasSubstr("crlf.txt: 300 line ends of CRLF or CR are read as LF"));
  const Json lf = ReadJson(folder / "lf/lieq.json"), crlf = ReadJson(folder / "crlf/lieq.json"),
             kept = ReadJson(folder / "kept/lieq.json");
  EXPECT_EQ(lf["settings"], crlf["settings"]);
  EXPECT_FALSE(lf["calibration"].contains("notes"));
  EXPECT_EQ(crlf["calibration"]["line_ends"], "lf");
  EXPECT_THAT(crlf["calibration"]["notes"][0].get<std::string>(), HasSubstr("300 line ends"));
  EXPECT_EQ(kept["settings"]["line_ends"], "keep");
  EXPECT_EQ(kept["calibration"]["line_ends"], "keep");
  EXPECT_THAT(kept["calibration"]["notes"][0].get<std::string>(), HasSubstr("are kept"));
  EXPECT_NE(kept["calibration"]["hash"], lf["calibration"]["hash"]);
  EXPECT_THAT(kept["command"].get<std::string>(), HasSubstr("--line-ends keep"));

  EXPECT_EQ(Lieq(Quantize("lf", "crlf.txt", {"-q"})).exit, 0) << "the same work, done already";
  EXPECT_EQ(Lieq(Quantize("lf", "crlf.txt", {"-q", "--line-ends", "keep"})).exit, 3)
      << "other work";
}

TEST_F(Texts, AreEvaluatedByWhatTheyHoldAndRecorded) {
  std::string rows;
  for (int i = 0; i < 40; ++i) rows += "{\"text\": \"one row\\r\\nof a text\"}\n";
  WriteText(folder / "r.jsonl", rows + "{\"text\": null}\n");
  WriteText(folder / "r.json", "[" + std::string(400, ' ') + "\"" + std::string(400, 'x') + "\"]");

  WriteText(folder / "a.txt", std::string(400, 'x'));

  const Json lf = Evaluate("lf.txt"), crlf = Evaluate("crlf.txt");
  EXPECT_EQ(lf["perplexity"], crlf["perplexity"]);
  EXPECT_EQ(lf["text_hash"], crlf["text_hash"]);
  EXPECT_EQ(lf["line_ends"], "lf");
  EXPECT_FALSE(lf.contains("text_notes"));
  EXPECT_EQ(crlf["text_notes"].size(), 1);
  const Json kept = Evaluate("crlf.txt", {"--line-ends", "keep"});
  EXPECT_NE(kept["perplexity"], lf["perplexity"]);
  EXPECT_EQ(kept["line_ends"], "keep");

  const Json read = Evaluate("r.jsonl");
  EXPECT_EQ(read["text_notes"].size(), 2);
  EXPECT_THAT(err, HasSubstr("warning: r.jsonl: 1 of 41 rows without text are left out (the first: "
                             "r.jsonl:41, where text is null)"));
  EXPECT_EQ(Evaluate("r.json")["tokens_in_text"], Evaluate("a.txt")["tokens_in_text"]);
}

TEST_F(Texts, ThatChangedAreInDiagnosticsToo) {
  const Outcome outcome = Lieq({"diagnose", Path("model"), "-o", Path("d.json"), "--calibration",
                                Path("crlf.txt"), "--second-text", Path("crlf.txt"), "--text",
                                Path("crlf.txt"), "--context", "64", "--samples", "2"});
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  const Json record = ReadJson(folder / "d.json");
  for (const Json& notes :
       {record["calibration_notes"], record["text_notes"], record["stability"]["text_notes"]}) {
    ASSERT_EQ(notes.size(), 1);
    EXPECT_THAT(notes[0].get<std::string>(), HasSubstr("300 line ends"));
  }
  EXPECT_EQ(Lieq({"plan", Path("model"), "-o", Path("p.json"), "--diagnostics", Path("d.json"),
                  "--group-size", "32"})
                .exit,
            0)
      << "they are read back";
}

TEST_F(Texts, ThatAreTooShortNameTheLengthThatFits) {
  WriteText(folder / "short.txt", std::string(40, 'a'));
  const Outcome outcome = Lieq({"evaluate", Path("model"), "--text", Path("short.txt")});
  EXPECT_EQ(outcome.exit, 3);
  EXPECT_THAT(outcome.err, HasSubstr(Path("short.txt") + ": text is shorter than one window"));
  EXPECT_THAT(outcome.err, HasSubstr("found:    40"));
  EXPECT_THAT(outcome.err, HasSubstr("--context 40 or less"));
  EXPECT_EQ(Lieq({"evaluate", Path("model"), "--text", Path("short.txt"), "--context", "40"}).exit,
            0);

  const Outcome calibration = Lieq({"quantize", Path("model"), "-o", Path("out"), "--calibration",
                                    Path("short.txt"), "--uniform", "2", "--group-size", "32"});
  EXPECT_THAT(calibration.err, HasSubstr(Path("short.txt") + ": text is shorter"));
  EXPECT_THAT(calibration.err, HasSubstr("--context 40 or less"));
  const Outcome damage = Lieq({"sensitivity", Path("model"), "-o", Path("s.json"), "--text",
                               Path("short.txt"), "--context", "64", "--candidates", "2:32"});
  EXPECT_THAT(damage.err, HasSubstr("--damage-context 40 or less"));
  WriteText(folder / "one.txt", "a");
  EXPECT_THAT(Lieq({"evaluate", Path("model"), "--text", Path("one.txt")}).err,
              HasSubstr("try:      a longer text"));
}

TEST_F(Texts, MakeNoticesOnceInARun) {
  const Outcome outcome = Lieq({"quantize",
                                Path("model"),
                                "-o",
                                Path("out"),
                                "--bpw",
                                "3.5",
                                "--calibration",
                                Path("crlf.txt"),
                                "--context",
                                "64",
                                "--samples",
                                "500",
                                "--candidates",
                                "2:32,4:32",
                                "--damage-context",
                                "64",
                                "--damage-windows",
                                "2",
                                "--method",
                                "gptq"});
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  std::set<std::string> lines;
  std::istringstream said(outcome.err);
  for (std::string line; std::getline(said, line);) {
    EXPECT_TRUE(lines.insert(line).second) << "twice: " << line;
  }
  EXPECT_THAT(outcome.err, HasSubstr("300 line ends"));
  EXPECT_THAT(outcome.err, HasSubstr("fewer than --samples 500"));

  const Outcome models = Lieq({"evaluate", Path("model"), Path("model"), "--text", Path("crlf.txt"),
                               "--context", "64", "--samples", "2"});
  EXPECT_EQ(models.err.find("line ends"), models.err.rfind("300 line ends") + 4) << models.err;
}

TEST_F(Texts, GiveAsManyWindowsAsTheyHaveWhereNothingIsAskedFor) {
  const std::vector<std::string> words{"quantize", Path("model"),  "-o", Path("out"), "--uniform",
                                       "2",        "--group-size", "32", "--method",  "gptq"};
  const Outcome outcome = Lieq(words);
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_THAT(outcome.err, Not(HasSubstr("fewer")));
  const Json record = ReadJson(folder / "out/lieq.json");
  EXPECT_EQ(record["calibration"]["tokens"],
            record["settings"]["samples"].get<int>() * record["settings"]["context"].get<int>());
}

TEST_F(Texts, OfWhichNothingIsUsedAreNamed) {
  const auto said = [&](const std::vector<std::string>& files, const std::string& samples) {
    std::vector<std::string> words{"quantize", Path("model"), "-o",    Path("out"),
                                   "--force",  "--uniform",   "2",     "--group-size",
                                   "32",       "--method",    "gptq",  "--context",
                                   "64",       "--samples",   samples, "--calibration"};
    for (const std::string& file : files) words.push_back(Path(file));
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return outcome.err;
  };
  EXPECT_THAT(said({"lf.txt", "crlf.txt"}, "2"),
              HasSubstr("crlf.txt: none of it is used, the last of 2 windows ends before it "
                        "(--samples says how many; FILE:WEIGHT gives each file a share)"));
  EXPECT_THAT(said({"lf.txt", "crlf.txt"}, "500"), Not(HasSubstr("none of it is used")));
  EXPECT_THAT(said({"lf.txt:1", "crlf.txt:1"}, "2"), Not(HasSubstr("none of it is used")));
}

TEST_F(Texts, OfPromptsAreRepairedWithAWord) {
  std::string prompt = Lines("\r\n");
  WriteText(folder / "p.txt", "\xEF\xBB\xBF" + prompt);
  const Outcome outcome = Lieq(
      {"generate", Path("model"), "--prompt-file", Path("p.txt"), "--new-tokens", "1", "--json"});
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(ParseJson(outcome.out, "stdout")["prompt"], Lines("\n"));
  EXPECT_THAT(outcome.err, HasSubstr("300 line ends"));
  EXPECT_THAT(outcome.err, HasSubstr("byte order mark"));
  EXPECT_THAT(Lieq({"generate", Path("model"), "--prompt", "a\xFF", "--new-tokens", "1"}).err,
              HasSubstr("--prompt: bytes that are no UTF-8"));
}

TEST_F(Texts, ABoundOnAGpusMemoryIsNoneOfAProcessors) {
  const auto outcome =
      Lieq({"evaluate", Path("model"), "--text", Path("lf.txt"), "--device-memory", "8G"});
  EXPECT_EQ(outcome.exit, 2);
  EXPECT_THAT(outcome.err, HasSubstr("--device-memory is of --device cuda"));
}

TEST_F(Texts, SeveralGpusAreForCommandsThatShareTheirWork) {
  const Outcome alone = Lieq({"generate", Path("model"), "--prompt", "a", "--device", "cuda:0,1"});
  EXPECT_EQ(alone.exit, 2);
  EXPECT_THAT(alone.err, HasSubstr("`lieq generate` computes on one device"));

  const Outcome shared =
      Lieq({"evaluate", Path("model"), "--text", Path("lf.txt"), "--device", "cuda:0,1"});
  EXPECT_THAT(shared.err, Not(HasSubstr("computes on one device")));
  const Outcome twice =
      Lieq({"evaluate", Path("model"), "--text", Path("lf.txt"), "--device", "cuda:1,1"});
  EXPECT_NE(twice.exit, 0);
  EXPECT_THAT(twice.err, HasSubstr("no such device"));
}

TEST_F(Texts, AreEvaluatedInTheArithmeticThatAProbeFindsFaster) {
  const Json chosen = Evaluate("lf.txt", {"--arithmetic", "auto"});
  EXPECT_THAT(err, HasSubstr("products in "));
  const std::string name = chosen["arithmetic"];
  EXPECT_TRUE(name == "float32" || name == "bf16") << name;
  EXPECT_EQ(Evaluate("lf.txt", {"--arithmetic", name})["perplexity"], chosen["perplexity"]);
  EXPECT_EQ(Evaluate("lf.txt")["arithmetic"], "float32") << "results do not follow the machine";
  EXPECT_THAT(err, Not(HasSubstr("products in ")));
  EXPECT_EQ(Lieq({"evaluate", Path("model"), "--text", Path("lf.txt"), "--arithmetic", "fp8"}).exit,
            2);
}

}  // namespace
}  // namespace lieq
