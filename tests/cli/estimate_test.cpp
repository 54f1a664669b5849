// What commands say beforehand: nothing is written or measured for it, and bytes come true.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "lieq/base/rng.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/stage_clock.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

class Estimates : public testing::Test {
 protected:
  Estimates() {
    std::string text;
    Rng rng(7);
    for (int i = 0; i < 30000; ++i) text += static_cast<char>('a' + rng.Below(20));
    WriteText(folder / "text", text);
    // 10 and 11 lie before 2 in the files.
    MakeTinyModel(folder / "model", {.layers = 12, .hidden = 64, .intermediate = 128});
    ::setenv("XDG_CACHE_HOME", Path("cache").c_str(), 1);
  }

  std::string Path(const std::string& name) const { return (folder / name).string(); }
  Outcome Lieq(const Words& words) { return RunLieq(folder.path(), words); }

  /// A command on the model, short, with more options.
  Words Command(const std::string& command, const std::string& out, const Words& more) const {
    Words words{command, Path("model"), "-o", Path(out), "--json"};
    words.insert(words.end(), {"--samples", "8", "--context", "64"});
    if (std::ranges::find(more, "--calibration") == more.end()) {
      words.insert(words.end(), {"--calibration", Path("text")});
    }
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Words Quantize(const std::string& out, const Words& more) const {
    Words words = Command("quantize", out, more);
    words.insert(words.end(), {"--group-size", "32"});
    return words;
  }
  static Words And(Words words, const Words& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  /// Everything in the folder, but for the output of the program and its cache.
  std::set<std::string> Files() const {
    std::set<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
      const std::string name = fs::relative(entry.path(), folder.path()).string();
      if (name != "stdout" && name != "stderr" && !name.starts_with("cache")) files.insert(name);
    }
    return files;
  }
  std::int64_t BytesBelow(const std::string& name) const {
    std::int64_t bytes = 0;
    for (const auto& entry : fs::recursive_directory_iterator(folder / name)) {
      if (entry.is_regular_file()) bytes += static_cast<std::int64_t>(entry.file_size());
    }
    return bytes;
  }

  TempFolder folder;
};

const std::vector<Words> kExact{
    {"--uniform", "4", "--method", "rtn"},
    {"--uniform", "2", "--offset", "float", "--embedding-bits", "8"},
    {"--bits", "2.5"},
    {"--bits", "3", "--widths", "3,4", "--ranking", "energy"},
    {"--high-layers", "5", "--method", "gptq"},
    {"--bits", "2.5", "--ranking", "block-influence"},
};
const std::vector<Words> kAtMost{
    {"--bpw", "3.2", "--method", "gptq", "--damage-windows", "2", "--damage-context", "32"},
    {"--bpw", "3", "--granularity", "layer", "--method", "rtn", "--damage-windows", "2",
     "--damage-context", "32", "--refine", "2"},
    {"--size", "260000", "--method", "rtn", "--damage-windows", "2", "--damage-context", "32"},
    {"--bpw", "3.5", "--ranking", "compactness", "--method", "rtn"},
};

TEST_F(Estimates, OfADryRunAreAllThatItDoes) {
  const std::set<std::string> before = Files();
  std::vector<Words> commands;
  for (const auto& rows : {kExact, kAtMost}) {
    for (const Words& options : rows) commands.push_back(Quantize("out", options));
  }
  commands.push_back(Quantize("out", {"--bits", "2.5", "--transform", "awq"}));
  commands.push_back(Quantize("out", {"--bits", "2.5", "--calibration", "self"}));
  commands.push_back(Command("plan", "plan.json", {"--bits", "2.5", "--group-size", "32"}));
  commands.push_back(Command("plan", "plan.json", {"--bpw", "3.2"}));
  commands.push_back(Command("sensitivity", "s.json", {}));
  commands.push_back(Command("sensitivity", "s.json", {"--mode", "context", "--measure-all"}));

  for (const Words& words : commands) {
    const Outcome dry = Lieq(And(words, {"--dry-run"}));
    const std::string line = testing::PrintToString(words);

    ASSERT_EQ(dry.exit, 0) << line << dry.err;
    EXPECT_EQ(Files(), before) << line;
    // Stages are announced where work begins: none did.
    EXPECT_EQ(dry.err.find(" 1 of "), std::string::npos) << line << dry.err;
    const Json record = ParseJson(dry.out, "stdout");
    EXPECT_EQ(record["kind"], "estimate");
    EXPECT_GT(record["seconds"], 0) << line;
    EXPECT_GT(record["memory_bytes"], 0) << line;
    EXPECT_FALSE(record["stages"].empty()) << line;
    for (const Json& stage : record["stages"]) EXPECT_GT(stage["seconds"], 0) << line << stage;
  }
}

TEST_F(Estimates, OfBytesComeTrue) {
  int made = 0;
  const auto check = [&](const Words& options, bool exact) {
    const std::string out = "out" + std::to_string(made++), line = testing::PrintToString(options);
    const Outcome dry = Lieq(Quantize(out, And(options, {"--dry-run"})));
    ASSERT_EQ(dry.exit, 0) << line << dry.err;
    const Outcome done = Lieq(Quantize(out, And(options, {"-q"})));
    ASSERT_EQ(done.exit, 0) << line << done.err;

    const Json said = ParseJson(dry.out, "stdout");
    const auto bytes = static_cast<std::int64_t>(fs::file_size(folder / out / "model.safetensors"));
    EXPECT_EQ(said["bytes_are"], exact ? "exact" : "at most") << line;
    if (exact) {
      EXPECT_EQ(said["bytes"], bytes) << line;
      EXPECT_EQ(said["code_bits_per_weight"],
                ReadJson(folder / out / "lieq.json")["code_bits_per_weight"])
          << line;
    }
    EXPECT_GE(said["bytes"].get<std::int64_t>(), bytes) << line;
    EXPECT_LE(said["bytes"].get<double>(), 1.1 * static_cast<double>(bytes)) << line;
    // All that lay there at once: finished layers, and the result.
    EXPECT_GE(said["disk_bytes"].get<std::int64_t>(), 2 * bytes) << line;
  };
  for (const Words& options : kExact) check(options, true);
  for (const Words& options : kAtMost) check(options, options[2] == "--ranking");
  ASSERT_EQ(Lieq(Command("plan", "plan.json", {"--bits", "2.75", "--group-size", "32"})).exit, 0);
  check({"--plan", Path("plan.json")}, true);
}

TEST_F(Estimates, OfDiskHoldCodesAndResult) {
  MakeTinyModel(folder / "model", {.layers = 12});  // larger than what its bounds leave open
  const Words options{"--bpw",   "3.2",         "--method",         "rtn", "--damage-windows", "2",
                      "--codes", Path("codes"), "--damage-context", "32"};
  const auto disk = [&](const std::string& out) {
    const Outcome dry = Lieq(Quantize(out, And(options, {"--dry-run"})));
    EXPECT_EQ(dry.exit, 0) << dry.err;
    return ParseJson(dry.out, "stdout")["disk_bytes"].get<std::int64_t>();
  };
  const std::int64_t first = disk("out");
  ASSERT_EQ(Lieq(Quantize("out", And(options, {"-q"}))).exit, 0);

  EXPECT_GE(first, BytesBelow("codes") + BytesBelow("out"));
  EXPECT_LE(first, 2 * (BytesBelow("codes") + 2 * BytesBelow("out")) + (2 << 20));
  // Codes that are there already take nothing more.
  EXPECT_LE(disk("other"), first - BytesBelow("codes") + (1 << 20));
}

TEST_F(Estimates, AreRememberedAndLostWithoutHarm) {
  const Words words = Quantize("out", {"--uniform", "4", "--method", "gptq", "--dry-run"});
  const Outcome first = Lieq(words), second = Lieq(words);
  ASSERT_EQ(first.exit, 0) << first.err;
  EXPECT_EQ(ParseJson(first.out, "stdout")["stages"], ParseJson(second.out, "stdout")["stages"]);

  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder / "cache/lieq")) {
    ++files;
    WriteText(entry.path(), "{\"seconds\": {\"a");
  }
  EXPECT_EQ(files, 1);
  EXPECT_EQ(Lieq(words).exit, 0);
  fs::remove_all(folder / "cache");
  WriteText(folder / "cache", "a file where the folder would be");
  EXPECT_EQ(Lieq(words).exit, 0);
}

TEST_F(Estimates, NameTheStagesBeforeTheyStart) {
  const Outcome done = Lieq(Quantize("out", {"--bits", "2.5", "--method", "gptq"}));
  ASSERT_EQ(done.exit, 0) << done.err;

  std::size_t at = 0;
  for (const char* line :
       {": 1. compactness (", ", 2. quantizing (", ", 3. writing (", "lieq: 1 of 3: compactness, ",
        "lieq: 2 of 3: quantizing, ", "lieq: 3 of 3: writing"}) {
    at = done.err.find(line, at);
    EXPECT_NE(at, std::string::npos) << line << "\n" << done.err;
    if (at == std::string::npos) break;
  }
  EXPECT_EQ(Lieq(Quantize("quiet", {"--bits", "2.5", "--method", "gptq", "-q"})).err, "");
}

TEST_F(Estimates, SecondsOfARunCountAllItsStarts) {
  const Words words = Quantize("out", {"--uniform", "4", "-q"});
  const Outcome killed = RunInterrupted(folder.path(), "KILL", "quantizing:1", words);
  ASSERT_EQ(killed.exit, 128 + SIGKILL) << killed.err;
  Record before = ReadRecord(folder / "out.run/seconds.json");
  EXPECT_EQ(before["runs"], 1);
  before["seconds"] = 5000.0;  // as if it had been at work for long
  before["runs"] = 3;
  WriteText(folder / "out.run/seconds.json", before.dump());
  const Outcome last = Lieq(words);

  ASSERT_EQ(last.exit, 0) << last.err;
  const Json run = ReadJson(folder / "out/run.json");
  EXPECT_EQ(run["runs"], 4);
  EXPECT_GE(run["seconds"], 5000.0);
  EXPECT_LT(run["seconds"], 9000.0);
}

double g_now = 0;
double Now() {
  return g_now;
}

TEST(StageClock, KnowsThePlaceAndTheTimeLeft) {
  g_now = 100;
  StageClock clock(Now);
  EXPECT_FALSE(clock.SecondsLeft());
  EXPECT_FALSE(clock.Begin("undeclared", 3));
  EXPECT_EQ(clock.Place(), "");

  const std::vector<PlannedStage> stages{{"a", 10}, {"b", 20}, {"c", 70}};
  clock.Declare(stages);
  EXPECT_DOUBLE_EQ(*clock.SecondsLeft(), 100);
  EXPECT_TRUE(clock.Begin("a", 4));
  EXPECT_EQ(clock.Place(), "1 of 3: ");
  EXPECT_DOUBLE_EQ(*clock.SecondsLeft(), 100);
  g_now = 110;  // twice as slow as expected: 10 more here, and the rest by as much, nearly
  clock.Update(2);
  EXPECT_GT(*clock.SecondsLeft(), 10 + 1.4 * 90);
  EXPECT_LT(*clock.SecondsLeft(), 10 + 2 * 90);

  EXPECT_FALSE(clock.Begin("a part of a", 7));  // no stage of its own, and its steps do not count
  clock.Update(6);
  EXPECT_EQ(clock.Place(), "1 of 3: ");
  EXPECT_LT(*clock.SecondsLeft(), 10 + 2 * 90);

  g_now = 120;
  EXPECT_TRUE(clock.Begin("c", 2));  // b was passed over
  EXPECT_EQ(clock.Place(), "3 of 3: ");
  EXPECT_GT(*clock.SecondsLeft(), 70);
  g_now = 150;
  clock.Update(1);
  EXPECT_DOUBLE_EQ(*clock.SecondsLeft(), 30);
}

TEST(StageClock, LeavesNoTimeBelowZero) {
  g_now = 0;
  StageClock clock(Now);
  const std::vector<PlannedStage> stages{{"a", 1}, {"b", 0}};
  clock.Declare(stages);
  EXPECT_TRUE(clock.Begin("a", 0));
  g_now = 1000;
  EXPECT_GE(*clock.SecondsLeft(), 0);
  EXPECT_TRUE(clock.Begin("b", 1));
  g_now = 2000;
  EXPECT_GE(*clock.SecondsLeft(), 0);
  clock.Update(1);
  EXPECT_DOUBLE_EQ(*clock.SecondsLeft(), 0);
}

}  // namespace
}  // namespace lieq
