#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "lieq/container/model_folder.h"
#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

class Program : public testing::Test {
 protected:
  Program() { MakeTinyModel(folder / "model", {.layers = 4}); }

  Outcome Lieq(std::vector<std::string> words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }

  /// A quantize command of part of a second.
  std::vector<std::string> Quantize(const std::string& out,
                                    const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"quantize",     Path("model"), "-o",        Path(out),
                                   "--samples",    "8",           "--context", "192",
                                   "--group-size", "32",          "-q"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  void ExpectNothingAt(const std::string& out) const { EXPECT_FALSE(fs::exists(folder / out)); }

  TempFolder folder;
};

TEST_F(Program, QuantizesInspectsAndEvaluates) {
  const Outcome quantized = Lieq(Quantize("out", {"--bits", "2.5", "--json"}));
  ASSERT_EQ(quantized.exit, 0) << quantized.err;
  const Json result = ParseJson(quantized.out, "stdout");
  EXPECT_EQ(result["schema"], 1);
  EXPECT_EQ(result["code_bits_per_weight"], 2.5);
  EXPECT_EQ(result["bytes"], fs::file_size(folder / "out/model.safetensors"));
  for (const char* file : {"config.json", "lieq.json", "run.json", "README.md", "tokenizer.json"}) {
    EXPECT_TRUE(fs::exists(folder / "out" / file)) << file;
  }
  EXPECT_FALSE(fs::exists(folder / "out.run"));

  const Json inspected = ParseJson(Lieq({"inspect", Path("out"), "--json"}).out, "stdout");
  EXPECT_EQ(inspected["layers"], 4);
  EXPECT_EQ(inspected["code_bits_per_weight"], 2.5);
  EXPECT_EQ(inspected["bits_per_weight"], 3.0);  // f16 scales of groups of 32
  EXPECT_EQ(std::ranges::count(inspected["layer_bits"], Json(4.0)), 1);

  WriteText(folder / "text", std::string(5000, 'a') + std::string(5000, 'b'));
  const Outcome evaluated = Lieq({"evaluate", Path("out"), "--text", Path("text"), "--context",
                                  "256", "--samples", "3", "--json"});
  ASSERT_EQ(evaluated.exit, 0) << evaluated.err;
  const Json score = ParseJson(evaluated.out, "stdout");
  EXPECT_EQ(score["tokens_scored"], 3 * 255);
  EXPECT_GT(score["perplexity"], 1.0);
}

TEST_F(Program, HasOffsetsThatItLoadsItselfAndOthersRefuse) {
  WriteText(folder / "text", std::string(5000, 'a') + std::string(5000, 'b'));
  for (const std::string offset : {"symmetric", "half", "integer", "float"}) {
    const std::vector<std::string> options{"--uniform", "2", "--offset", offset};

    const Outcome quantized = Lieq(Quantize(offset, options));

    ASSERT_EQ(quantized.exit, 0) << quantized.err;
    const bool own = offset == "half" || offset == "float";
    const Json config = ReadJson(folder / offset / "config.json");
    EXPECT_EQ(config["quantization_config"]["quant_method"], own ? "lieq" : "compressed-tensors");
    const std::string card = ReadText(folder / offset / "README.md");
    EXPECT_EQ(card.find("- compressed-tensors\n") == std::string::npos, own);
    const Json settings = ReadJson(folder / offset / "lieq.json")["settings"];
    EXPECT_EQ(settings["symmetric"], offset == "symmetric");
    EXPECT_EQ(settings.value("offset", ""), own ? offset : "");
    const Json inspected = ParseJson(Lieq({"inspect", Path(offset), "--json"}).out, "stdout");
    EXPECT_EQ(inspected["bits_per_weight"], offset == "integer" ? 2 + 18 / 32.0
                                            : offset == "float" ? 3.0
                                                                : 2.5);
    const Outcome evaluated = Lieq(
        {"evaluate", Path(offset), "--text", Path("text"), "--context", "256", "--samples", "3"});
    EXPECT_EQ(evaluated.exit, 0) << evaluated.err;
  }
  EXPECT_EQ(Lieq(Quantize("out", {"--offset", "real"})).exit, 2);
}

TEST_F(Program, PutsCodesOnTheGridsOfLlamaCpp) {
  MakeTinyModel(folder / "wide",
                {.layers = 1, .hidden = 256, .intermediate = 256, .heads = 8, .kv_heads = 1});
  WriteText(folder / "text", std::string(5000, 'a') + std::string(5000, 'b'));
  const auto quantize = [&](const std::string& out, std::vector<std::string> options) {
    std::vector<std::string> words{"quantize",  Path("wide"), "-o",        Path(out), "-q",
                                   "--samples", "4",          "--context", "256"};
    words.insert(words.end(), options.begin(), options.end());
    return Lieq(words);
  };
  const std::vector<std::tuple<std::string, std::string, double>> rows{
      {"q2_k", "best", 2.625},
      {"q3_k", "weighted", 3.4375},
      {"q4_k", "gptq", 4.5},
      {"q6_k", "weighted", 6.5625}};
  for (const auto& [grid, method, bits] : rows) {
    const Outcome quantized = quantize(grid, {"--grid", grid, "--method", method});

    ASSERT_EQ(quantized.exit, 0) << quantized.err;
    const Json config = ReadJson(folder / grid / "config.json")["quantization_config"];
    EXPECT_EQ(config["quant_method"], "lieq");
    EXPECT_EQ(config["config_groups"]["group_0"]["weights"]["grid"], grid);
    const Json record = ReadJson(folder / grid / "lieq.json");
    EXPECT_EQ(record["settings"]["grid"], "k-quant");
    EXPECT_EQ(record["settings"]["method"], method);
    EXPECT_EQ(record["bits_per_weight"], bits);
    const Json inspected = ParseJson(Lieq({"inspect", Path(grid), "--json"}).out, "stdout");
    EXPECT_EQ(inspected["bits_per_weight"], bits);
    EXPECT_NE(Lieq({"inspect", Path(grid)}).out.find(grid), std::string::npos);
    const Outcome evaluated = Lieq(
        {"evaluate", Path(grid), "--text", Path("text"), "--context", "256", "--samples", "3"});
    EXPECT_EQ(evaluated.exit, 0) << evaluated.err;
  }
  MakeTinyModel(folder / "two",
                {.layers = 2, .hidden = 256, .intermediate = 256, .heads = 8, .kv_heads = 1});
  const Outcome mixed =
      Lieq({"quantize", Path("two"), "-o", Path("mixed"), "-q", "--samples", "4", "--context",
            "256", "--method", "weighted", "--grid", "k-quant", "--high-layers", "1"});
  ASSERT_EQ(mixed.exit, 0) << mixed.err;
  const Json inspected = ParseJson(Lieq({"inspect", Path("mixed"), "--json"}).out, "stdout");
  EXPECT_EQ(inspected["bits_per_weight"], (2.625 + 4.5) / 2);

  // Under a budget they are chosen by what they cost, beside other grids, and a plan keeps them.
  const std::vector<std::string> budget{
      "--method", "weighted",         "--bpw", "3.2",     "--damage-windows",
      "2",        "--damage-context", "64",    "--check", "1"};
  const auto with = [](std::vector<std::string> options, const std::vector<std::string>& more) {
    options.insert(options.end(), more.begin(), more.end());
    return options;
  };
  for (const std::vector<std::string>& choice : {std::vector<std::string>{"--grid", "k-quant"},
                                                 {"--candidates", "q2_k,2:64,q4_k"},
                                                 {"--for", "gguf"}}) {
    const Outcome chosen = quantize("chosen", with(with(budget, choice), {"--force"}));
    ASSERT_EQ(chosen.exit, 0) << choice.back() << ": " << chosen.err;
    const Json record = ReadJson(folder / "chosen/lieq.json");
    EXPECT_LE(record["bits_per_weight"].get<double>(), 3.2);
    EXPECT_GE(record["bits_per_weight"].get<double>(), 2.25);
    EXPECT_EQ(record["allocation"], "optimal");
    ASSERT_TRUE(record["layers"][0].contains("grid")) << choice.back();
  }
  // What was chosen for GGUF goes there, and reads back as the same model.
  const Outcome exported = Lieq({"export", Path("chosen"), "--to", "gguf", "-o", Path("k.gguf")});
  ASSERT_EQ(exported.exit, 0) << exported.err;
  EXPECT_NE(exported.out.find("llama-server"), std::string::npos) << exported.out;
  EXPECT_EQ(Lieq({"verify", Path("k.gguf"), "--against", Path("chosen")}).exit, 0);
  EXPECT_EQ(Lieq({"verify", Path("k.gguf"), "--against", Path("q2_k")}).exit, 4);
  EXPECT_NE(Lieq({"inspect", Path("k.gguf")}).out.find("_k"), std::string::npos);
  const auto perplexity = [&](const std::string& model) {
    const Outcome run = Lieq({"evaluate", Path(model), "--text", Path("text"), "--context", "256",
                              "--samples", "3", "--json"});
    return run.exit == 0 ? ParseJson(run.out, "stdout")["perplexity"].get<double>() : -1.0;
  };
  EXPECT_GT(perplexity("k.gguf"), 1);
  EXPECT_EQ(perplexity("k.gguf"), perplexity("chosen"));

  // So do embedding and head: by rule, and where an optimal plan weighs them.
  for (const std::string grid : {"q6_k", "q2_k"}) {
    const std::string out = "end-" + grid;
    ASSERT_EQ(
        quantize(out, {"--uniform", "w4g32", "--method", "rtn", "--set", "embed=" + grid}).exit, 0);
    const Json record = ReadJson(folder / out / "lieq.json");
    EXPECT_EQ(record["ends_grid"], grid);
    EXPECT_EQ(record["embedding_bits"], grid == "q6_k" ? 6 : 2);
    const Outcome file =
        Lieq({"export", Path(out), "--to", "gguf", "-o", Path(out + ".gguf"), "-q"});
    ASSERT_EQ(file.exit, 0) << file.err;
    EXPECT_EQ(Lieq({"verify", Path(out + ".gguf"), "--against", Path(out)}).exit, 0);
    EXPECT_NE(Lieq({"inspect", Path(out + ".gguf")}).out.find(grid), std::string::npos);
    EXPECT_EQ(perplexity(out + ".gguf"), perplexity(out));
  }
  const Outcome planned = Lieq(with(
      {"plan", Path("wide"), "-o", Path("k.json"), "--samples", "4", "--context", "256"},
      with(budget, {"--candidates", "q2_k,q4_k", "--for", "gguf", "--codes", Path("k.codes")})));
  ASSERT_EQ(planned.exit, 0) << planned.err;
  EXPECT_NE(planned.out.find("q2_k"), std::string::npos) << planned.out;
  const Json ends = ReadJson(folder / "k.json")["ends"];
  EXPECT_NE(ends[0]["candidates"].dump().find(R"("bits":6)"), std::string::npos) << ends.dump();
  const Outcome assembled = quantize("assembled", {"--method", "weighted", "--plan", Path("k.json"),
                                                   "--assemble", "--codes", Path("k.codes")});
  ASSERT_EQ(assembled.exit, 0) << assembled.err;
  EXPECT_EQ(ReadJson(folder / "assembled/lieq.json")["bits_per_weight"],
            ReadJson(folder / "k.json")["bits_per_weight"]);

  EXPECT_EQ(quantize("out", {"--grid", "q7_k"}).exit, 2);
  EXPECT_EQ(quantize("out", {"--grid", "k-quant", "--candidates", "q2_k", "--bpw", "3"}).exit, 2);
  EXPECT_EQ(quantize("out", {"--grid", "q2_k", "--uniform", "4"}).exit, 2);
  EXPECT_EQ(quantize("out", {"--grid", "q2_k", "--bits", "2.25"}).exit, 2);
  const Outcome eight = quantize("out", {"--grid", "k-quant", "--uniform", "8"});
  EXPECT_EQ(eight.exit, 3);
  EXPECT_NE(eight.err.find("8 bits"), std::string::npos) << eight.err;
  const Outcome narrow = Lieq(Quantize("out", {"--grid", "q2_k"}));
  EXPECT_EQ(narrow.exit, 3);
  EXPECT_NE(narrow.err.find("256"), std::string::npos) << narrow.err;
}

TEST_F(Program, GivesTheSameBytesForAnyNumberOfThreads) {
  for (const char* threads : {"1", "2", "3"}) {
    const Outcome outcome =
        Lieq(Quantize(std::string("out") + threads, {"--bits", "2.5", "--threads", threads}));
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
  }
  EXPECT_EQ(Contents(folder / "out1"), Contents(folder / "out2"));
  EXPECT_EQ(Contents(folder / "out1"), Contents(folder / "out3"));
}

TEST_F(Program, EndsWithTheSameBytesAfterBeingKilledAtTenMoments) {
  const auto command = [&](const std::string& out, const char* threads) {
    return Quantize(out, {"--bits", "2.5", "--method", "gptq", "--threads", threads});
  };
  ASSERT_EQ(Lieq(command("whole", "2")).exit, 0);
  int starts = 0;
  for (const char* moment :
       {"file:1", "file:3", "compactness:2", "quantizing:0", "quantizing:1", "resuming:1",
        "quantizing:1", "quantizing:2", "writing:0", "writing:1"}) {
    const Outcome killed = RunInterrupted(folder.path(), "KILL", moment,
                                          command("out", ++starts % 2 == 0 ? "1" : "3"));
    ASSERT_EQ(killed.exit, 128 + SIGKILL) << moment << "\n" << killed.err;
    ExpectNothingAt("out");
  }
  const Outcome last = Lieq(command("out", "2"));

  ASSERT_EQ(last.exit, 0) << last.err;
  EXPECT_EQ(Contents(folder / "out"), Contents(folder / "whole"));
  EXPECT_FALSE(fs::exists(folder / "out.run"));
}

TEST_F(Program, EndsWithTheSameBytesAfterBeingKilledBeforeAnyFlushOrRename) {
  MakeTinyModel(folder / "small", {.layers = 2, .hidden = 64, .intermediate = 64});
  const auto command = [&](const std::string& out) {
    return std::vector<std::string>{"quantize", Path("small"),  "-o", Path(out),  "--uniform",
                                    "2",        "--group-size", "32", "--method", "rtn",
                                    "-q"};
  };
  ASSERT_EQ(Lieq(command("whole")).exit, 0);
  const auto whole = Contents(folder / "whole");
  int calls = 0;
  while (true) {
    const std::string moment = "file:" + std::to_string(calls + 1);
    const Outcome killed = RunInterrupted(folder.path(), "KILL", moment, command("out"));
    if (killed.exit == 0) break;  // it makes no such call
    ASSERT_EQ(killed.exit, 128 + SIGKILL) << moment << "\n" << killed.err;
    ++calls;

    const Outcome last = Lieq(command("out"));

    ASSERT_EQ(last.exit, 0) << moment << "\n" << last.err;
    ASSERT_EQ(Contents(folder / "out"), whole) << moment;
    ASSERT_FALSE(fs::exists(folder / "out.run")) << moment;
    fs::remove_all(folder / "out");
  }
  EXPECT_GE(calls, 20);
}

TEST_F(Program, GoesOnAfterASignalWithTheLineItPrints) {
  const std::vector<std::string> words{"quantize", Path("model"),  "-o", Path("out"), "--uniform",
                                       "2",        "--group-size", "32", "--samples", "8"};
  const Outcome stopped = RunInterrupted(folder.path(), "TERM", "quantizing:1", words);

  EXPECT_EQ(stopped.exit, 128 + SIGTERM);
  ExpectNothingAt("out");
  EXPECT_NE(stopped.err.find("--uniform 2 --group-size 32"), std::string::npos) << stopped.err;
  EXPECT_TRUE(fs::exists(folder / "out.run/layer-00000.safetensors"));
  EXPECT_FALSE(fs::exists(folder / "out.run/layer-00001.safetensors"));
  EXPECT_EQ(Lieq(words).exit, 0);
}

TEST_F(Program, RefusesToGoOnWithOtherOptions) {
  fs::create_directory(folder / "out.run");
  const Outcome first = Lieq(Quantize("out", {"--bits", "2.5"}));
  ASSERT_EQ(first.exit, 0) << first.err;
  fs::rename(folder / "out", folder / "kept");
  fs::create_directory(folder / "out.run");
  Record settings = ReadRecord(folder / "kept/lieq.json")["settings"];
  settings["damping"] = 0.5;
  WriteText(folder / "out.run/settings.json", settings.dump());

  const Outcome second = Lieq(Quantize("out", {"--bits", "2.5"}));

  EXPECT_EQ(second.exit, 3);
  EXPECT_NE(second.err.find("another damping"), std::string::npos) << second.err;
  EXPECT_NE(second.err.find("0.5"), std::string::npos);
  ExpectNothingAt("out");
  EXPECT_EQ(Lieq(Quantize("out", {"--bits", "2.5", "--force"})).exit, 0);
  EXPECT_EQ(Contents(folder / "out"), Contents(folder / "kept"));
}

TEST_F(Program, KnowsWhatIsDoneAndWhatIsInTheWay) {
  ASSERT_EQ(Lieq(Quantize("out", {"--uniform", "2"})).exit, 0);

  const Outcome again = Lieq(Quantize("out", {"--uniform", "2"}));
  EXPECT_EQ(again.exit, 0);
  EXPECT_NE(again.out.find("already done"), std::string::npos);
  const Outcome as_json = Lieq(Quantize("out", {"--uniform", "2", "--json"}));
  EXPECT_EQ(ParseJson(as_json.out, "stdout")["already_done"], true);
  const Outcome other = Lieq(Quantize("out", {"--uniform", "3"}));
  EXPECT_EQ(other.exit, 3);
  EXPECT_NE(other.err.find("--force"), std::string::npos);
  EXPECT_EQ(Lieq(Quantize("out", {"--uniform", "3", "--force"})).exit, 0);
  EXPECT_NE(Lieq({"inspect", Path("out")}).out.find("3 bits"), std::string::npos);
  const Outcome onto_source = Lieq({"quantize", Path("model"), "-o", Path("model"), "--force"});
  EXPECT_EQ(onto_source.exit, 3);
  EXPECT_NE(onto_source.err.find("source"), std::string::npos);
}

TEST_F(Program, NamesTheProcessThatHoldsTheOutput) {
  Running first(InterruptedWords("STOP", "quantizing:1", Quantize("out", {"--uniform", "2"})),
                folder / "o", folder / "e", LIEQ_INTERRUPTED);
  ASSERT_EQ(first.Wait(), 128 + SIGSTOP);

  const Outcome second = Lieq(Quantize("out", {"--uniform", "2"}));

  EXPECT_EQ(second.exit, 3) << second.err;
  EXPECT_NE(second.err.find("process id " + std::to_string(first.pid())), std::string::npos)
      << second.err;
}

TEST_F(Program, PlansAsQuantizeDoes) {
  ASSERT_EQ(
      Lieq({"plan", Path("model"), "-o", Path("plan.json"), "--bits", "2.5", "--group-size", "32"})
          .exit,
      0);
  ASSERT_EQ(Lieq({"diagnose", Path("model"), "-o", Path("diagnostics.json")}).exit, 0);
  ASSERT_EQ(Lieq({"plan", Path("model"), "-o", Path("plan2.json"), "--bits", "2.5", "--diagnostics",
                  Path("diagnostics.json"), "--group-size", "32"})
                .exit,
            0);
  ASSERT_EQ(Lieq(Quantize("out", {"--bits", "2.5", "--context", "100"})).exit, 0);
  ASSERT_EQ(Lieq(Quantize("out2", {"--plan", Path("plan.json"), "--context", "100"})).exit, 0);

  const Json plan = ReadJson(folder / "plan.json"), result = ReadJson(folder / "out/lieq.json");
  EXPECT_EQ(plan, ReadJson(folder / "plan2.json"));
  for (std::size_t layer = 0; layer < 4; ++layer) {
    EXPECT_EQ(plan["layers"][layer]["bits"], result["layers"][layer]["bits"]);
    EXPECT_EQ(plan["layers"][layer]["score"], result["layers"][layer]["score"]);
  }
  EXPECT_EQ(ReadText(folder / "out/model.safetensors"),
            ReadText(folder / "out2/model.safetensors"));
}

TEST_F(Program, DiagnosesInEveryVariantAndRecordsIt) {
  const auto diagnose = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words{"diagnose", Path("model"), "-o", Path("d.json"), "-q"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return ReadJson(folder / "d.json");
  };

  const Json variant =
      diagnose({"--projections", "qkv", "--heads", "whole", "--spectrum", "plain", "--twins", "2",
                "--top-fraction", "0.25", "--spectrum-windows", "1", "--seed", "5"});
  EXPECT_EQ(variant["settings"], (Json{{"projections", "qkv"},
                                       {"heads", "whole"},
                                       {"spectrum", "plain"},
                                       {"inputs", "activations"}}));
  EXPECT_EQ(variant["twins"], 2);
  EXPECT_EQ(variant["top_fraction"], 0.25);
  EXPECT_EQ(variant["spectrum_windows"], 1);
  EXPECT_EQ(variant["seed"], 5);
  EXPECT_EQ(variant["calibration_files"], Json{"bundled"});
  EXPECT_EQ(variant["layers"][0]["site_compactness"].size(), 3u);
  EXPECT_TRUE(variant["layers"][3].contains("block_influence"));
  EXPECT_TRUE(variant["layers"][3].contains("largest_activation"));

  fs::remove(folder / "model/tokenizer.json");
  const Json weights = diagnose({"--inputs", "weights"});
  EXPECT_EQ(weights["settings"]["inputs"], "weights");
  EXPECT_FALSE(weights.contains("calibration_hash"));
  EXPECT_FALSE(weights["layers"][0].contains("block_influence"));
  const Outcome both = Lieq({"diagnose", Path("model"), "-o", Path("d.json"), "--inputs", "weights",
                             "--calibration", Path("text")});
  EXPECT_EQ(both.exit, 2);
  EXPECT_NE(both.err.find("reads no text"), std::string::npos) << both.err;
}

TEST_F(Program, SaysWhetherRankingsDependOnTheText) {
  std::string rows;
  for (int i = 0; i < 400; ++i) rows += "{\"text\": \"row " + std::to_string(i * i) + "\"}\n";
  WriteText(folder / "rows.jsonl", rows);

  const Outcome outcome = Lieq({"diagnose", Path("model"), "-o", Path("d.json"), "--context", "256",
                                "--second-text", Path("rows.jsonl")});

  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("Kendall's tau between both texts: block-influence"),
            std::string::npos)
      << outcome.out;
  const Json stability = ReadJson(folder / "d.json")["stability"];
  EXPECT_EQ(stability["text_files"], Json{"rows.jsonl"});
  EXPECT_FALSE(stability["text_hash"].get<std::string>().empty());
  for (const char* ranking : {"compactness", "energy", "block-influence"}) {
    EXPECT_LE(std::abs(stability["kendall_tau"][ranking].get<double>()), 1) << ranking;
  }
}

TEST_F(Program, RanksByBlockInfluenceByWeightsAndByAFile) {
  WriteText(folder / "scores.json", "{\"scores\": [1, 4, 3, 2]}");
  const auto plan = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words{"plan", Path("model"), "-o", Path("plan.json"), "--bits", "2.5"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return ReadJson(folder / "plan.json");
  };

  EXPECT_EQ(plan({"--ranking", "file", "--scores", Path("scores.json")})["layers"][1]["bits"], 4);
  const Json influence = plan({"--ranking", "block-influence"});
  EXPECT_EQ(influence["ranking"], "block-influence");
  EXPECT_TRUE(influence.contains("calibration_hash"));
  WriteText(folder / "text", std::string(5000, 'a') + std::string(5000, 'b'));
  ASSERT_EQ(Lieq({"diagnose", Path("model"), "-o", Path("d.json"), "--context", "256", "--text",
                  Path("text")})
                .exit,
            0);
  EXPECT_EQ(plan({"--ranking", "combined", "--ranking-weights", "1,0,2", "--diagnostics",
                  Path("d.json")})["ranking_weights"],
            (Json{1.0, 0.0, 2.0}));
  EXPECT_EQ(Lieq({"plan", Path("model"), "-o", Path("p"), "--ranking", "file"}).exit, 2);
  EXPECT_EQ(Lieq({"plan", Path("model"), "-o", Path("p"), "--ranking-weights", "0,0,0"}).exit, 2);
}

TEST_F(Program, TellsTheExactBytesBeforehand) {
  for (const char* budget : {"--bits=2.5", "--uniform=3"}) {
    const Outcome dry = Lieq(Quantize("out", {budget, "--dry-run", "--json"}));
    ASSERT_EQ(dry.exit, 0) << dry.err;
    ExpectNothingAt("out");
    EXPECT_FALSE(fs::exists(folder / "out.run"));
    ASSERT_EQ(Lieq(Quantize("out", {budget})).exit, 0);
    EXPECT_EQ(ParseJson(dry.out, "stdout")["bytes"],
              fs::file_size(folder / "out/model.safetensors"));
    fs::remove_all(folder / "out");
  }
}

TEST_F(Program, SaysWhatIsWrongWithTheCommandLine) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {{"quantise", Path("model")}, "did you mean 'quantize'"},
      {Quantize("out", {"--bit", "2"}), "did you mean '--bits'"},
      {Quantize("out", {"--grup-size", "64"}), "did you mean '--group-size'"},
      {Quantize("out", {"--asymmetric"}),
       "does not take '--asymmetric'\n  give '--offset integer'"},
      {Quantize("out", {"--bits", "2", "--symmetric"}), "give '--offset symmetric'"},
      {Quantize("out", {"--correct-bias"}), "does not take '--correct-bias'"},
      {Quantize("out", {"--sink-cap", "2"}), "does not take '--sink-cap'"},
      {Quantize("out", {"--loss-weights", "1"}), "does not take '--loss-weights'"},
      {Quantize("out", {"--bits", "2.5", "--uniform", "3"}), "one of --bits, --uniform"},
      {Quantize("out", {"--uniform", "7"}), "2, 3, 4, 5, 6 or 8"},
      {Quantize("out", {"--widths", "4,2"}), "lower width first"},
      {Quantize("out", {"--method", "obq"}), "weighted, gptq, awq or best"},
      {{"evaluate", Path("model")}, "--text"},
      {{"quantize", Path("model")}, "--output"},
      {{}, "which command"}};
  for (const auto& [words, expected] : cases) {
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 2) << expected;
    EXPECT_NE(outcome.err.find(expected), std::string::npos) << outcome.err;
  }
  ExpectNothingAt("out");
  EXPECT_EQ(Lieq({"--help"}).exit, 0);
  EXPECT_NE(Lieq({"quantize", "--help"}).out.find("--group-size"), std::string::npos);
  EXPECT_NE(Lieq({"--version"}).out.find("OpenBLAS"), std::string::npos);
}

TEST_F(Program, SaysWhatIsWrongWithTheInputAndWritesNothing) {
  const auto fails = [&](const std::string& expected, const std::vector<std::string>& words) {
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 3) << expected << outcome.out;
    EXPECT_NE(outcome.err.find(expected), std::string::npos) << outcome.err;
    ExpectNothingAt("out");
  };
  const std::string weights = ReadText(folder / "model/model.safetensors");
  const std::string config = ReadText(folder / "model/config.json");
  const std::string tokenizer = ReadText(folder / "model/tokenizer.json");

  fails("hf download Qwen/Qwen3-0.6B", {"inspect", "Qwen/Qwen3-0.6B"});
  fails("one of 16, 32, 64, 128, row", Quantize("out", {"--group-size", "256"}));
  WriteText(folder / "one", "a");
  fails("one", {"evaluate", Path("model"), "--text", Path("one")});
  fails("one", Quantize("out", {"--calibration", Path("one")}));
  WriteText(folder / "bad.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}\n");
  fails("bad.jsonl:2: /text", Quantize("out", {"--calibration", Path("bad.jsonl")}));
  fails("missing.txt", Quantize("out", {"--calibration", Path("missing.txt")}));
  WriteText(folder / "model/model.safetensors", weights.substr(0, weights.size() - 10));
  fails("model.safetensors", Quantize("out"));
  WriteText(folder / "model/model.safetensors", std::string(8, '\xFF') + weights.substr(8));
  fails("model.safetensors", Quantize("out"));
  WriteText(folder / "model/model.safetensors", weights);
  WriteText(folder / "model/config.json", config.substr(0, config.size() / 2));
  fails("config.json", Quantize("out"));
  WriteText(folder / "model/config.json", config);
  WriteText(folder / "model/tokenizer.json", "{\"model\": {}}");
  fails("tokenizer.json", Quantize("out"));
  fs::remove(folder / "model/tokenizer.json");
  fails("no tokenizer.json", Quantize("out"));
  WriteText(folder / "model/tokenizer.json", tokenizer);
  fs::rename(folder / "model/model.safetensors", folder / "model/pytorch_model.bin");
  fails(".bin", Quantize("out"));
}

TEST_F(Program, PrintsPagesFromItsOptionTable) {
  EXPECT_NE(Lieq({"--print-man"}).out.find(".TH LIEQ 1"), std::string::npos);
  EXPECT_NE(Lieq({"--print-completion", "bash"}).out.find("--act-order"), std::string::npos);
}

}  // namespace
}  // namespace lieq
