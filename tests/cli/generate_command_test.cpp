#include <gtest/gtest.h>

#include <algorithm>

#include "lieq/io/json.h"
#include "lieq/text/utf8.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

class GenerateCommand : public testing::Test {
 protected:
  GenerateCommand() { MakeTinyModel(folder / "model", {.layers = 2}); }

  Outcome Lieq(std::vector<std::string> words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }

  Outcome Generate(const std::vector<std::string>& more, const std::string& model = "model") {
    std::vector<std::string> words{"generate", Path(model), "-n", "24"};
    words.insert(words.end(), more.begin(), more.end());
    return Lieq(words);
  }
  Json Record(std::vector<std::string> more, const std::string& model = "model") {
    more.emplace_back("--json");
    const Outcome outcome = Generate(more, model);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return ParseJson(outcome.out, "stdout");
  }
  /// Adds keys to config.json.
  void Configure(const std::string& keys) {
    lieq::Record config = TinyModelConfig({.layers = 2});
    config.update(ParseRecord(keys, "keys"));
    WriteText(folder / "model/config.json", config.dump());
  }

  TempFolder folder;
};

const std::vector<std::string> kDrawn{"-p", "the one", "--temperature", "1", "--seed", "5"};

TEST_F(GenerateCommand, IsGreedyByDefaultAndSaysSoInItsRecord) {
  const Json first = Record({"-p", "the one"});

  EXPECT_EQ(first["kind"], "generation");
  EXPECT_EQ(first["schema"], 1);
  EXPECT_EQ(first["prompt"], "the one");
  EXPECT_EQ(first["prompt_ids"].size(), 5u);  // "t", "he", " ", "on", "e"
  EXPECT_EQ(first["ids"].size(), 24u);
  EXPECT_EQ(first["stopped"], "length");
  EXPECT_FALSE(first.contains("end_id"));
  EXPECT_EQ(first["temperature"], 0);
  EXPECT_GT(first["tokens_per_second"], 0);
  EXPECT_EQ(Record({"-p", "the one", "--seed", "9"})["ids"], first["ids"]);
  const Json drawn = Record({"-p", "the one", "--temperature", "5", "--top-k", "1"});
  EXPECT_EQ(drawn["ids"], first["ids"]);
}

TEST_F(GenerateCommand, PrintsTheTextOfTheRecordInWholeCharacters) {
  const Json record = Record(kDrawn);
  const std::string text = record["text"];
  const Outcome printed = Generate(kDrawn);
  ASSERT_EQ(printed.exit, 0) << printed.err;
  EXPECT_EQ(printed.out, text + "\n");
  EXPECT_NE(printed.err.find("stopped by --new-tokens"), std::string::npos) << printed.err;
  // Random bytes: most of them begin no character.
  std::string storage;
  EXPECT_EQ(ToValidUtf8(printed.out, storage), printed.out);
  EXPECT_NE(text.find("\uFFFD"), std::string::npos);
}

TEST_F(GenerateCommand, IsTheSameForASeedAndAnyThreadsAndDiffersBetweenSeeds) {
  const Json ids = Record(kDrawn)["ids"];
  for (const char* threads : {"1", "2", "5"}) {
    std::vector<std::string> words = kDrawn;
    words.insert(words.end(), {"--threads", threads});
    EXPECT_EQ(Record(words)["ids"], ids) << threads << " threads";
  }
  EXPECT_NE(Record({"-p", "the one", "--temperature", "1", "--seed", "6"})["ids"], ids);
}

TEST_F(GenerateCommand, StopsAtEndTokensOfEitherFile) {
  const std::vector<TokenId> ids = Record(kDrawn)["ids"];
  const TokenId end = ids[10];
  const auto first = std::ranges::find(ids, end) - ids.begin();
  const std::string id = std::to_string(end);
  const auto expect_stop = [&] {
    const Json record = Record(kDrawn);
    EXPECT_EQ(record["stopped"], "end of text");
    EXPECT_EQ(record["end_id"], end);
    EXPECT_EQ(record["ids"], std::vector<TokenId>(ids.begin(), ids.begin() + first));
  };
  Configure("{\"eos_token_id\": " + id + "}");
  expect_stop();
  Configure("{\"eos_token_id\": [266, " + id + "]}");
  expect_stop();
  Configure("{}");
  WriteText(folder / "model/generation_config.json", "{\"eos_token_id\": [" + id + "]}");
  expect_stop();
}

TEST_F(GenerateCommand, WorksOnQuantizedModelsAndOtherContainers) {
  Configure(R"({"eos_token_id": 266, "bos_token_id": 266})");
  ASSERT_EQ(Lieq({"quantize", Path("model"), "-o", Path("packed"), "--uniform", "8", "--method",
                  "rtn", "--group-size", "32", "-q"})
                .exit,
            0);
  const Json packed = Record(kDrawn, "packed");
  EXPECT_EQ(packed["ids"].size(), 24u);
  for (const std::string to : {"gptq", "mlx", "gguf"}) {
    const std::string out = to == "gguf" ? "gguf/model.gguf" : to;
    std::filesystem::create_directories(folder / "gguf");
    const Outcome exported = Lieq({"export", Path("packed"), "--to", to, "-o", Path(out), "-q"});
    ASSERT_EQ(exported.exit, 0) << exported.err;
    EXPECT_EQ(Record(kDrawn, out)["ids"], packed["ids"]) << to;
  }
}

TEST_F(GenerateCommand, BeginsWithoutAPromptAndTakesOneFromAFile) {
  EXPECT_NE(Generate({"-p", ""}).err.find("names no token that a text begins with"),
            std::string::npos);
  Configure(R"({"eos_token_id": [265, 266]})");
  EXPECT_EQ(Record({"-p", ""})["prompt_ids"], Json({265}));
  Configure(R"({"eos_token_id": 266, "bos_token_id": 7})");
  EXPECT_EQ(Record({"-p", ""})["prompt_ids"], Json({7}));
  EXPECT_EQ(Record({"-p", "<|endoftext|>"})["prompt_ids"], Json({266}));
  WriteText(folder / "prompt.txt", "on\n");
  const Json record = Record({"--prompt-file", Path("prompt.txt")});
  EXPECT_EQ(record["prompt"], "on\n");
  EXPECT_EQ(record["prompt_ids"], Record({"-p", "on\n"})["prompt_ids"]);
}

TEST_F(GenerateCommand, PutsThePrefixOfTheTokenizerBeforeThePromptOnce) {
  const auto file = folder / "model/tokenizer.json";
  lieq::Record tokenizer = ReadRecord(file);
  tokenizer["post_processor"] = ParseRecord(
      R"({"type": "TemplateProcessing",
          "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
                     {"Sequence": {"id": "A", "type_id": 0}}],
          "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
          "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [266],
                                               "tokens": ["<|endoftext|>"]}}})",
      "template");
  WriteText(file, tokenizer.dump());
  const Json ids = Record({"-p", "on"})["prompt_ids"];
  EXPECT_EQ(ids.size(), 2u);
  EXPECT_EQ(ids[0], 266);
  EXPECT_EQ(Record({"-p", "<|endoftext|>on"})["prompt_ids"], ids);
  EXPECT_EQ(Record({"-p", ""})["prompt_ids"], Json({266}));
}

TEST_F(GenerateCommand, WritesACalibrationTextThatIsTheSameForASeedAndAnyThreads) {
  Configure(R"({"eos_token_id": 266})");
  const auto quantize = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> words{
        "quantize",  Path("model"), "-o",        Path(out), "--uniform",    "2",
        "--samples", "5",           "--context", "48",      "--group-size", "32",
        "--method",  "gptq",        "-q"};
    words.insert(words.end(), {"--calibration", "self"});
    words.insert(words.end(), more.begin(), more.end());
    return Lieq(words);
  };
  const Outcome first = quantize("first", {"--threads", "1"});
  ASSERT_EQ(first.exit, 0) << first.err;
  ASSERT_EQ(quantize("again", {"--threads", "3"}).exit, 0);
  ASSERT_EQ(quantize("other", {"--seed", "1"}).exit, 0);

  EXPECT_EQ(Contents(folder / "first"), Contents(folder / "again"));
  const Json record = ReadJson(folder / "first/lieq.json");
  EXPECT_EQ(record["settings"]["calibration_source"], "self");
  EXPECT_EQ(record["settings"]["seed"], 0);
  EXPECT_EQ(record["settings"]["samples"], 5);
  EXPECT_EQ(record["calibration"]["files"], Json({"self"}));
  EXPECT_EQ(record["calibration"]["tokens"], 5 * 48);
  EXPECT_NE(ReadJson(folder / "other/lieq.json")["calibration"]["hash"],
            record["calibration"]["hash"]);
  const Outcome beside = quantize("bad", {"--calibration", "self", Path("x")});
  EXPECT_EQ(beside.exit, 2);
  EXPECT_NE(beside.err.find("stands alone"), std::string::npos) << beside.err;
}

TEST_F(GenerateCommand, RefusesWhatItCannotDo) {
  const auto refused = [&](const std::vector<std::string>& words, int exit, const char* says) {
    const Outcome outcome = Generate(words);
    EXPECT_EQ(outcome.exit, exit) << outcome.err;
    EXPECT_NE(outcome.err.find(says), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  };
  refused({}, 2, "one of --prompt and --prompt-file");
  refused({"-p", "a", "--prompt-file", Path("x")}, 2, "one of --prompt and --prompt-file");
  refused({"--prompt-file", Path("x")}, 3, "x");
  refused({"-p", "a", "--top-k", "5"}, 2, "--temperature above 0");
  refused({"-p", "a", "--top-p", "0.5"}, 2, "--temperature above 0");
  refused({"-p", "a", "--top-p", "0"}, 2, "--top-p: expected");
  refused({"-p", "a", "--top-p", "1.1"}, 2, "--top-p: expected");
  refused({"-p", "a", "--temperature", "-1"}, 2, "--temperature: expected");
  refused({"-p", "a", "--temperature", "nan"}, 2, "--temperature: expected");
  refused({"-p", "a", "-n", "0"}, 2, "--new-tokens: expected");
  refused({"-p", "a", "--chats"}, 2, "does not take '--chats'");
  refused({"-p", "a", "--system", "b"}, 2, "--system wants --chat");
  refused({"--chat", "--system", "b", "--messages", Path("m")}, 2, "--system and --messages");
  refused({"-p", "a", "--chat"}, 3, "has no chat template");
  WriteText(folder / "model/tokenizer_config.json",
            R"({"chat_template": "{{ raise_exception('never') }}"})");
  refused({"-p", "a", "--chat"}, 3, "tokenizer_config.json: /chat_template: line 1, column 19");
  WriteText(folder / "m.json", R"([{"content": "whose?"}])");
  refused({"--messages", Path("m.json")}, 3, "m.json");
  Configure(R"({"eos_token_id": 9999})");
  refused({"-p", "a"}, 3, "/eos_token_id");
}

constexpr std::string_view kTemplate =
    R"({"chat_template": "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{{ tools|length if tools }}{% if add_generation_prompt %}<assistant>{{ mood }}{% endif %}"})";

TEST_F(GenerateCommand, PutsTheChatTemplateAroundTheMessages) {
  WriteText(folder / "model/tokenizer_config.json", kTemplate);

  const Json record = Record({"--chat", "--system", "Be.", "-p", "the one"});

  EXPECT_EQ(record["prompt"], "<system>Be.<user>the one<assistant>");
  EXPECT_EQ(record["messages"].dump(),
            R"([{"content":"Be.","role":"system"},{"content":"the one","role":"user"}])");
  EXPECT_EQ(record["prompt_ids"],
            Record({"-p", "<system>Be.<user>the one<assistant>"})["prompt_ids"]);
  EXPECT_EQ(Generate({"--chat", "-p", "the one"}).out,
            Record({"--chat", "-p", "the one"})["text"].get<std::string>() + "\n");
}

TEST_F(GenerateCommand, GoesOnWithTheTurnsOfAFile) {
  WriteText(folder / "model/tokenizer_config.json", kTemplate);
  WriteText(
      folder / "turns.json",
      R"([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}])");
  WriteText(
      folder / "whole.json",
      R"({"messages": [{"role": "user", "content": "a"}], "tools": [{}, {}], "mood": "glad"})");
  WriteText(folder / "p.txt", "more");

  EXPECT_EQ(Record({"--messages", Path("turns.json")})["prompt"],
            "<user>a<assistant>b<user>c<assistant>");
  EXPECT_EQ(Record({"--messages", Path("whole.json")})["prompt"], "<user>a2<assistant>glad");
  EXPECT_EQ(Record({"--messages", Path("whole.json"), "--prompt-file", Path("p.txt")})["prompt"],
            "<user>a<user>more2<assistant>glad");
}

TEST_F(GenerateCommand, TakesTheChatTemplateOfAGgufFile) {
  WriteText(folder / "model/tokenizer_config.json", kTemplate);
  ASSERT_EQ(Lieq({"export", Path("model"), "--to", "gguf", "-o", Path("model.gguf")}).exit, 0);

  EXPECT_EQ(Record({"--chat", "-p", "the one"}, "model.gguf")["prompt"],
            "<user>the one<assistant>");
}

TEST_F(GenerateCommand, WarnsBeyondThePositionsOfTheModel) {
  Configure(R"({"max_position_embeddings": 20})");
  const Outcome outcome = Generate({"-p", "on"});
  EXPECT_EQ(outcome.exit, 0);
  EXPECT_NE(outcome.err.find("25 tokens are more than the 20 positions"), std::string::npos)
      << outcome.err;
}

}  // namespace
}  // namespace lieq
