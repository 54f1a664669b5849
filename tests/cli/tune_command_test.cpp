// lieq tune: what it writes, keeps and refuses.
#include <gtest/gtest.h>
#include <signal.h>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using Words = std::vector<std::string>;

class Tuning : public testing::Test {
 protected:
  Tuning() {
    MakeTinyModel(folder / "model", {.layers = 2, .intermediate = 192});
    std::string text;
    for (int i = 0; i < 400; ++i) text += "line " + std::to_string(i * i) + " of the text\n";
    WriteText(folder / "text", text);
  }
  std::string Path(const std::string& name) const { return (folder / name).string(); }
  Outcome Quantize(const std::string& out, const Words& more) {
    Words words{"quantize", Path("model"), "-o", Path(out), "--method", "rtn", "-q"};
    words.insert(words.end(), more.begin(), more.end());
    return RunLieq(folder.path(), words);
  }
  Words TuneWords(const std::string& model, const std::string& out, const Words& more = {}) {
    Words words{
        "tune",           Path(model), "--reference", Path("model"), "-o",       Path(out),
        "--context",      "32",        "--samples",   "12",          "--tokens", "384",
        "--batch-tokens", "64",        "--rate",      "0.02",        "-q",       "--calibration",
        Path("text")};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Outcome Tune(const std::string& model, const std::string& out, const Words& more = {}) {
    return RunLieq(folder.path(), TuneWords(model, out, more));
  }

  TempFolder folder;
};

TEST_F(Tuning, WritesTheSameBytesOfBetterNumbers) {
  const std::vector<std::pair<std::string, Words>> rows{
      {"plain", {"--uniform", "w2g64", "--embedding-bits", "8"}},
      {"own", {"--uniform", "w2g32:float"}}};
  for (const auto& [name, grid] : rows) {
    ASSERT_EQ(Quantize(name, grid).exit, 0);

    const Outcome tuned = Tune(name, name + "-tuned");

    ASSERT_EQ(tuned.exit, 0) << tuned.err;
    EXPECT_NE(tuned.out.find("held out"), std::string::npos) << tuned.out;
    const Json was = ReadJson(folder / name / "lieq.json"),
               is = ReadJson(folder / (name + "-tuned") / "lieq.json");
    EXPECT_EQ(is["bytes"], was["bytes"]);
    EXPECT_EQ(is["bits_per_weight"], was["bits_per_weight"]);
    EXPECT_EQ(is["layers"][0]["bits"], was["layers"][0]["bits"]);
    EXPECT_EQ(std::filesystem::file_size(folder / (name + "-tuned") / "model.safetensors"),
              std::filesystem::file_size(folder / name / "model.safetensors"));
    const Json& tuning = is["tuning"];
    EXPECT_LT(tuning["held_out_kl"], tuning["held_out_kl_before"]);
    EXPECT_EQ(tuning["steps"], 6);
    EXPECT_EQ(tuning["tokens"], 384);
    EXPECT_EQ(tuning["losses"].size(), 6u);
    EXPECT_EQ(tuning.contains("ends"), name == "plain");
    ASSERT_EQ(tuning["held_out"].size(), 1u);
    EXPECT_EQ(tuning["held_out"][0], Json({{"window", 6}, {"text", "text"}}));
    // Scales moved, codes did not; and another run gives the same bytes.
    const Words verify{"verify", Path(name + "-tuned"), "--against", Path(name)};
    EXPECT_EQ(RunLieq(folder.path(), verify).exit, 4);
    Words allowed = verify;
    allowed.insert(allowed.end(), {"--tuned", "scales"});
    const Outcome compared = RunLieq(folder.path(), allowed);
    EXPECT_EQ(compared.exit, 0) << compared.out;
    EXPECT_NE(compared.out.find(" scales\n"), std::string::npos) << compared.out;
    EXPECT_EQ(compared.out.find("code"), std::string::npos) << compared.out;
    ASSERT_EQ(Tune(name, name + "-again", {"--threads", "3"}).exit, 0);
    EXPECT_EQ(ReadText(folder / (name + "-again") / "model.safetensors"),
              ReadText(folder / (name + "-tuned") / "model.safetensors"));
  }
}

TEST_F(Tuning, JudgesByAllTextsAndSaysWhereTheTimeWent) {
  ASSERT_EQ(Quantize("q", {"--uniform", "w2g32"}).exit, 0);
  std::string text;
  for (int i = 0; i < 90; ++i) text += "another one, of " + std::to_string(7 * i) + " words\n";
  WriteText(folder / "other", text);
  Words words{"tune",
              Path("q"),
              "--reference",
              Path("model"),
              "-o",
              Path("tuned"),
              "--context",
              "32",
              "--tokens",
              "384",
              "--batch-tokens",
              "64",
              "--rate",
              "0.02",
              "-v",
              "--calibration",
              Path("text"),
              "--calibration",
              Path("other")};

  const Outcome tuned = RunLieq(folder.path(), words);

  ASSERT_EQ(tuned.exit, 0) << tuned.err;
  for (const char* part : {"seconds: ", "float model ", "backward ", "update ", "checks "}) {
    EXPECT_NE(tuned.err.find(part), std::string::npos) << part << tuned.err;
  }
  int of_other = 0;
  const Json record = ReadJson(folder / "tuned" / "lieq.json");
  for (const Json& each : record["tuning"]["held_out"]) of_other += each["text"] == "other";
  EXPECT_GE(of_other, 1);
  EXPECT_LT(of_other, static_cast<int>(record["tuning"]["held_out"].size()));
  EXPECT_NE(ReadText(folder / "tuned" / "README.md").find("| tuned | scales, "), std::string::npos);
}

TEST_F(Tuning, WarnsOfLittleTextInItsOwnWords) {
  ASSERT_EQ(Quantize("q", {"--uniform", "w2g32"}).exit, 0);

  const auto tune = [&](const std::string& out, const std::string& samples) {
    Words words = TuneWords("q", out, {"--samples", samples});
    std::erase(words, "-q");
    return RunLieq(folder.path(), words);
  };
  const Outcome few = tune("few", "12"), enough = tune("enough", "64");

  ASSERT_EQ(few.exit, 0) << few.err;
  EXPECT_NE(few.err.find("little text to train on: 11 windows of 32 tokens, and 1 held out"),
            std::string::npos)
      << few.err;
  ASSERT_EQ(enough.exit, 0) << enough.err;
  EXPECT_EQ(enough.err.find("little text"), std::string::npos) << enough.err;
  for (const Outcome& each : {few, enough}) {  // words of quantization
    EXPECT_EQ(each.err.find("calibration tokens"), std::string::npos) << each.err;
    EXPECT_EQ(each.err.find("--damping"), std::string::npos) << each.err;
  }
}

TEST_F(Tuning, TrainsOnATextThatTheFloatModelWrites) {
  WriteText(folder / "model" / "generation_config.json", R"({"bos_token_id": 266})");
  ASSERT_EQ(Quantize("q", {"--uniform", "w2g32"}).exit, 0);
  const auto tune = [&](const std::string& out, const std::string& threads) {
    return RunLieq(
        folder.path(),
        {"tune",           Path("q"),   "--reference", Path("model"), "-o",       Path(out),
         "--context",      "32",        "--samples",   "9",           "--tokens", "384",
         "--batch-tokens", "64",        "--rate",      "0.02",        "-q",       "--calibration",
         "self",           "--threads", threads});
  };

  const Outcome tuned = tune("tuned", "2");

  ASSERT_EQ(tuned.exit, 0) << tuned.err;
  const Json record = ReadJson(folder / "tuned" / "lieq.json");
  EXPECT_EQ(record["tuning"]["calibration"]["files"], Json({"self"}));
  EXPECT_EQ(record["tuning"]["windows"], 8);
  EXPECT_LT(record["tuning"]["held_out_kl"], record["tuning"]["held_out_kl_before"]);
  ASSERT_EQ(tune("again", "3").exit, 0);
  EXPECT_EQ(ReadText(folder / "again" / "model.safetensors"),
            ReadText(folder / "tuned" / "model.safetensors"));
  const Outcome beside =
      RunLieq(folder.path(), {"tune", Path("q"), "--reference", Path("model"), "-o", Path("out"),
                              "--calibration", "self", "--calibration", Path("text")});
  EXPECT_EQ(beside.exit, 2) << beside.err;
}

TEST_F(Tuning, MovesCodesWhereToldTo) {
  ASSERT_EQ(Quantize("q", {"--uniform", "w2g32"}).exit, 0);

  const Outcome tuned = Tune("q", "tuned", {"--what", "codes", "--code-rate", "0.1"});

  ASSERT_EQ(tuned.exit, 0) << tuned.err;
  EXPECT_NE(tuned.out.find(" are others, "), std::string::npos) << tuned.out;
  const Json was = ReadJson(folder / "q" / "lieq.json"),
             is = ReadJson(folder / "tuned" / "lieq.json");
  EXPECT_EQ(is["bytes"], was["bytes"]);
  EXPECT_EQ(is["tuning"]["what"], "codes");
  EXPECT_GT(is["tuning"]["moved_codes"], 0);
  EXPECT_EQ(is["tuning"]["code_rate"], 0.1);
  for (const auto& [part, exit] : {std::pair{"scales", 4}, {"codes", 0}}) {
    EXPECT_EQ(
        RunLieq(folder.path(), {"verify", Path("tuned"), "--against", Path("q"), "--tuned", part})
            .exit,
        exit);
  }
  EXPECT_LT(is["tuning"]["held_out_kl"], is["tuning"]["held_out_kl_before"]);
}

TEST_F(Tuning, GoesOnWhereItWasStoppedOrKilled) {
  ASSERT_EQ(Quantize("q", {"--uniform", "w2g32"}).exit, 0);
  ASSERT_EQ(Tune("q", "whole", {"--what", "codes"}).exit, 0);
  const std::string wanted = ReadText(folder / "whole" / "model.safetensors");
  for (const auto& [signal, exit] : {std::pair{"TERM", 128 + SIGTERM}, {"KILL", 128 + SIGKILL}}) {
    const std::string out = std::string("of-") + signal;
    const Words words = TuneWords("q", out, {"--what", "codes"});

    const Outcome ended = RunInterrupted(folder.path(), signal, "tuning:3", words);

    EXPECT_EQ(ended.exit, exit) << ended.err;
    EXPECT_FALSE(std::filesystem::exists(folder / out));
    EXPECT_TRUE(std::filesystem::exists(folder / (out + ".run") / "tuning.safetensors"));
    // Other settings are not mixed in.
    const Outcome other = Tune("q", out, {"--what", "codes", "--seed", "7"});
    EXPECT_EQ(other.exit, 3);
    EXPECT_NE(other.err.find("another seed"), std::string::npos) << other.err;
    EXPECT_EQ(RunLieq(folder.path(), words).exit, 0);
    EXPECT_EQ(ReadText(folder / out / "model.safetensors"), wanted);
    EXPECT_FALSE(std::filesystem::exists(folder / (out + ".run")));
  }
}

TEST_F(Tuning, IsALastStepOfQuantize) {
  const Words step{"--uniform",     "w2g32", "--context",     "32",        "--tune", "codes",
                   "--tune-tokens", "16k",   "--calibration", Path("text")};
  const Outcome made = Quantize("q", step);

  ASSERT_EQ(made.exit, 0) << made.err;
  EXPECT_NE(made.out.find("held out"), std::string::npos) << made.out;
  const Json record = ReadJson(folder / "q" / "lieq.json");
  EXPECT_EQ(record["tuning"]["what"], "codes");
  EXPECT_EQ(record["settings"]["tune"], "codes");
  for (const char* name : {"plan.json", "recipe.json", "run.json"}) {
    EXPECT_TRUE(std::filesystem::exists(folder / "q" / name)) << name;
  }
  EXPECT_EQ(ReadJson(folder / "q" / "recipe.json")["options"]["tune"], "codes");
  const Outcome seen = RunLieq(folder.path(), {"inspect", Path("q")});
  EXPECT_NE(seen.out.find("tuned          codes"), std::string::npos) << seen.out;
  // Done is done, and the same without the step is something else.
  const std::string bytes = ReadText(folder / "q" / "model.safetensors");
  EXPECT_NE(Quantize("q", step).out.find("already done"), std::string::npos);
  EXPECT_EQ(ReadText(folder / "q" / "model.safetensors"), bytes);
  EXPECT_NE(Quantize("q", {"--uniform", "w2g32", "--context", "32"}).exit, 0);
  // One that was stopped while it trained goes on.
  Words words{"quantize", Path("model"), "-o", Path("s"), "--method", "rtn", "-q"};
  words.insert(words.end(), step.begin(), step.end());
  EXPECT_NE(RunInterrupted(folder.path(), "TERM", "tuning:1", words).exit, 0);
  EXPECT_EQ(RunLieq(folder.path(), words).exit, 0);
  EXPECT_EQ(ReadText(folder / "s" / "model.safetensors"), bytes);
}

TEST_F(Tuning, WritesNothingWhereNothingIsBetter) {
  ASSERT_EQ(Quantize("q", {"--uniform", "w8g64"}).exit, 0);

  const Outcome tuned = Tune("q", "worse", {"--rate", "1"});

  EXPECT_EQ(tuned.exit, 4) << tuned.out;
  EXPECT_NE(tuned.out.find("not tuned"), std::string::npos) << tuned.out;
  EXPECT_FALSE(std::filesystem::exists(folder / "worse"));
}

TEST_F(Tuning, RefusesWhatItCannotTrain) {
  ASSERT_EQ(Quantize("q", {"--uniform", "w2g64"}).exit, 0);
  const auto refuses = [&](const Outcome& outcome, int exit, const std::string& expected) {
    EXPECT_EQ(outcome.exit, exit) << outcome.out;
    EXPECT_NE(outcome.err.find(expected), std::string::npos) << outcome.err;
  };
  refuses(Tune("model", "out"), 3, "not quantized");
  refuses(Tune("q", "out", {"--reference", Path("q")}), 3, "quantized already");
  refuses(Tune("q", "out", {"--minutes", "1"}), 2, "--tokens and --minutes");
  refuses(Tune("q", "out", {"--samples", "1"}), 3, "too little text");
  refuses(Tune("q", "q"), 3, "the output");
  MakeTinyModel(folder / "other", {.layers = 3, .intermediate = 192});
  refuses(Tune("q", "out", {"--reference", Path("other")}), 3, "another model");
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
}

}  // namespace
}  // namespace lieq
