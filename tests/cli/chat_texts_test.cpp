// Chats as texts: calibration and evaluation on rows of messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::HasSubstr;

/// What the template makes of one chat of each kind of row, and the rows.
class ChatTexts : public testing::Test {
 protected:
  ChatTexts() {
    MakeTinyModel(folder / "model", {.layers = 2});
    WriteText(
        folder / "model/tokenizer_config.json",
        R"({"chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"})");
    std::string rendered, messages, shared, fields;
    for (int i = 0; i < 60; ++i) {
      const std::string ask = "the " + std::to_string(i) + " one",
                        say = "on " + std::to_string(7 * i);
      rendered += "user: " + ask + "\nassistant: " + say + "\n";
      messages += Record{{"messages",
                          {{{"role", "user"}, {"content", ask}},
                           {{"role", "assistant"}, {"content", say}}}}}
                      .dump() +
                  "\n";
      shared += Record{{"conversations",
                        {{{"from", "human"}, {"value", ask}}, {{"from", "gpt"}, {"value", say}}}}}
                    .dump() +
                "\n";
      fields += Record{{"instruction", ask}, {"input", ""}, {"output", say}}.dump() + "\n";
    }
    WriteText(folder / "rendered.txt", rendered);
    WriteText(folder / "messages.jsonl", messages);
    WriteText(folder / "shared.jsonl", shared);
    WriteText(folder / "fields.jsonl", fields);
  }

  Outcome Lieq(std::vector<std::string> words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }
  Json Evaluate(const std::string& text, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"evaluate",  Path("model"), "--text", Path(text),
                                   "--context", "64",          "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return ParseJson(outcome.out, "stdout");
  }

  TempFolder folder;
};

const std::vector<std::string> kFields{"--chat-fields",
                                       "user=instruction,user=input,assistant=output"};

TEST_F(ChatTexts, AreMeasuredAsWhatTheTemplateMakesOfThem) {
  const Json plain = Evaluate("rendered.txt");

  for (const Json& chats :
       {Evaluate("messages.jsonl"), Evaluate("shared.jsonl"), Evaluate("fields.jsonl", kFields)}) {
    EXPECT_EQ(chats["mean_nll"], plain["mean_nll"]);
    EXPECT_EQ(chats["tokens_in_text"], plain["tokens_in_text"]);
    EXPECT_EQ(chats["text_hash"], plain["text_hash"]);
  }
}

TEST_F(ChatTexts, CalibrateAsWhatTheTemplateMakesOfThem) {
  const auto quantize = [&](const std::string& out, const std::string& text,
                            const std::vector<std::string>& more) {
    std::vector<std::string> words{"quantize",      Path("model"), "-o",        Path(out),
                                   "--calibration", Path(text),    "--uniform", "2",
                                   "--context",     "64",          "--samples", "8",
                                   "--group-size",  "32",          "-q"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return ReadText(folder / out / "model.safetensors");
  };
  const std::string plain = quantize("plain", "rendered.txt", {});

  EXPECT_EQ(quantize("messages", "messages.jsonl", {}), plain);
  EXPECT_EQ(quantize("fields", "fields.jsonl", kFields), plain);
  EXPECT_THAT(ReadText(folder / "fields/lieq.json"),
              HasSubstr("--chat-fields user=instruction,user=input,assistant=output"));
}

TEST_F(ChatTexts, AnswersAloneAreScoredOnRequest) {
  const Json all = Evaluate("messages.jsonl"),
             answers = Evaluate("messages.jsonl", {"--score", "answers"});

  EXPECT_EQ(all["score"], "all");
  EXPECT_EQ(answers["score"], "answers");
  EXPECT_GT(answers["tokens_scored"], 60);
  EXPECT_LT(answers["tokens_scored"].get<int>(), all["tokens_scored"].get<int>() / 2);
  EXPECT_NE(answers["mean_nll"], all["mean_nll"]);
  const Json itself = Evaluate("messages.jsonl", {"--score", "answers", "--reference",
                                                  Path("model"), "--cache", Path("cache")});
  EXPECT_EQ(itself["tokens_scored"], answers["tokens_scored"]);
  EXPECT_NEAR(itself["mean_nll"].get<double>(), answers["mean_nll"].get<double>(), 1e-9);
  EXPECT_EQ(itself["reference"]["same_top"], 1);
}

TEST_F(ChatTexts, OneAWindowAreMeasuredAsEachAlone) {
  const std::string messages = ReadText(folder / "messages.jsonl");
  double loss = 0, tokens = 0;
  std::size_t begin = 0;
  for (int i = 0; i < 5; ++i) {
    const std::size_t end = messages.find('\n', begin) + 1;
    WriteText(folder / "one.jsonl", messages.substr(begin, end - begin));
    begin = end;
    const Json one = Evaluate("one.jsonl", {"--chat-windows", "single"});
    EXPECT_EQ(one["windows"], 1);
    loss += one["mean_nll"].get<double>() * one["tokens_scored"].get<double>();
    tokens += one["tokens_scored"].get<double>();
  }

  const Json five = Evaluate("messages.jsonl", {"--chat-windows", "single", "--samples", "5"});

  EXPECT_EQ(five["chat_windows"], "single");
  EXPECT_EQ(five["windows"], 5);
  EXPECT_EQ(five["tokens_scored"], tokens);
  EXPECT_NEAR(five["mean_nll"].get<double>(), loss / tokens, 1e-5);
  EXPECT_THAT(five["text_notes"].dump(), HasSubstr("5 of 60 chats; 0 are longer than 64 tokens"));
  const Json answers =
      Evaluate("messages.jsonl", {"--chat-windows", "single", "--score", "answers", "--reference",
                                  Path("model"), "--cache", Path("cache")});
  EXPECT_EQ(answers["windows"], 60);
  EXPECT_EQ(answers["reference"]["same_top"], 1);
  EXPECT_LT(answers["tokens_scored"].get<int>(),
            Evaluate("messages.jsonl", {"--chat-windows", "single"})["tokens_scored"].get<int>());
  EXPECT_FALSE(Evaluate("messages.jsonl").contains("chat_windows"));
}

TEST_F(ChatTexts, OneAWindowAreCutAtItsEndAndCounted) {
  const Json cut = Evaluate("messages.jsonl", {"--chat-windows", "single", "--context", "8"});
  EXPECT_EQ(cut["context"], 8);
  EXPECT_THAT(cut["text_notes"].dump(), HasSubstr("60 of 60 chats; 60 are longer than 8 tokens"));
  EXPECT_EQ(cut["tokens_scored"], 60 * 7);
}

TEST_F(ChatTexts, OneAWindowShareNoColumnWithPackedOnes) {
  WriteText(folder / "packed.json", Evaluate("messages.jsonl").dump());
  WriteText(folder / "single.json",
            Evaluate("messages.jsonl", {"--chat-windows", "single"}).dump());
  const Outcome outcome =
      Lieq({"compare", Path("packed.json"), Path("single.json"), "--format", "json"});
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("\"plain, chats\""));
}

TEST_F(ChatTexts, OneAWindowCalibrate) {
  const auto quantize = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> words{"quantize",  Path("model"), "-o",           Path(out),
                                   "--uniform", "2",           "--context",    "64",
                                   "--samples", "16",          "--group-size", "32",
                                   "-q",        "--method",    "gptq"};
    words.insert(words.end(), more.begin(), more.end());
    return Lieq(words);
  };
  const std::vector<std::string> files{"--calibration", Path("messages.jsonl")};
  ASSERT_EQ(quantize("packed", files).exit, 0);
  std::vector<std::string> single = files;
  single.insert(single.end(), {"--chat-windows", "single"});
  const Outcome outcome = quantize("single", single);
  ASSERT_EQ(outcome.exit, 0) << outcome.err;

  const Json record = ParseJson(ReadText(folder / "single/lieq.json"), "lieq.json");
  EXPECT_EQ(record["settings"]["chat_windows"], "single");
  EXPECT_EQ(record["settings"]["samples"], 16);
  EXPECT_LT(record["settings"]["context"].get<int>(), 64) << "as long as the longest chat";
  EXPECT_THAT(record.dump(), HasSubstr("one chat a window, 16 of 60 chats"));
  EXPECT_THAT(record.dump(), HasSubstr("--chat-windows single"));
  EXPECT_NE(ReadText(folder / "single/model.safetensors"),
            ReadText(folder / "packed/model.safetensors"));
  EXPECT_EQ(quantize("again", {"--recipe", Path("single/recipe.json")}).exit, 0);
  EXPECT_EQ(ReadText(folder / "again/model.safetensors"),
            ReadText(folder / "single/model.safetensors"));
  EXPECT_EQ(quantize("mixed", {"--calibration", Path("messages.jsonl") + ":2", Path("shared.jsonl"),
                               "--chat-windows", "single"})
                .exit,
            0);
  EXPECT_THAT(ReadText(folder / "mixed/lieq.json"), HasSubstr("of 60 chats, for its weight 2"));
}

TEST_F(ChatTexts, OfWhichNoChatIsUsedAreNamed) {
  const auto said = [&](const std::string& samples) {
    const Outcome outcome = Lieq({"quantize",
                                  Path("model"),
                                  "-o",
                                  Path("out"),
                                  "--force",
                                  "--uniform",
                                  "2",
                                  "--group-size",
                                  "32",
                                  "--method",
                                  "gptq",
                                  "--context",
                                  "64",
                                  "--samples",
                                  samples,
                                  "--chat-windows",
                                  "single",
                                  "--calibration",
                                  Path("messages.jsonl"),
                                  Path("shared.jsonl")});
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return outcome.err;
  };
  // The first file has 60 chats.
  EXPECT_THAT(said("60"), HasSubstr("shared.jsonl: none of it is used, the last of 60 windows"));
  EXPECT_THAT(said("61"), testing::Not(HasSubstr("none of it is used")));
}

TEST_F(ChatTexts, OneAWindowWhereThatIsNotThereIsSaid) {
  const auto refused = [&](const std::vector<std::string>& words, const std::string& said) {
    const Outcome outcome = Lieq(words);
    EXPECT_NE(outcome.exit, 0);
    EXPECT_THAT(outcome.err, HasSubstr(said));
  };
  const std::string model = Path("model"), chats = Path("messages.jsonl");
  refused({"evaluate", model, "--text", Path("rendered.txt"), "--chat-windows", "single"},
          "of a text that is no chats");
  refused({"evaluate", model, "--text", chats, "--chat-windows", "single", "--stride", "4"},
          "--stride");
  refused(
      {"evaluate", model, "--text", chats, "--chat-windows", "single", "--convention", "llama.cpp"},
      "plain or gptq");
  refused({"evaluate", model, "--text", chats, "--chat-windows", "double"}, "--chat-windows");
  const std::vector<std::string> quantize{"quantize",       model,    "-o",
                                          Path("x"),        "--bits", "2.5",
                                          "--chat-windows", "single", "--calibration"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> words = quantize;
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  refused(with({chats, Path("rendered.txt")}), "of a text that is no chats");
  refused(with({"self"}), "self");
  refused(with({chats, "--tune", "scales"}), "--tune");
}

TEST_F(ChatTexts, ScoredByAnswersShareNoColumnWithThoseScoredWhole) {
  WriteText(folder / "all.json", Evaluate("messages.jsonl").dump());
  WriteText(folder / "answers.json", Evaluate("messages.jsonl", {"--score", "answers"}).dump());
  const Outcome outcome =
      Lieq({"compare", Path("all.json"), Path("answers.json"), "--format", "json"});
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("\"plain, answers\""));
  EXPECT_THAT(outcome.out, HasSubstr("\"plain\""));
}

TEST_F(ChatTexts, OfAModelWithoutATemplateAreRefused) {
  WriteText(folder / "model/tokenizer_config.json", "{}");
  const Outcome outcome = Lieq({"evaluate", Path("model"), "--text", Path("messages.jsonl")});
  EXPECT_EQ(outcome.exit, 3);
  EXPECT_THAT(outcome.err, HasSubstr("the model has no chat template"));
}

TEST_F(ChatTexts, WhatIsNoChatIsRefusedByItsRow) {
  WriteText(folder / "bad.jsonl", R"({"messages": [{"role": "user", "content": "a"}]})"
                                  "\n{\"x\": 1}\n");
  EXPECT_THAT(Lieq({"evaluate", Path("model"), "--text", Path("bad.jsonl")}).err,
              HasSubstr("bad.jsonl:2: this is no conversation"));
  EXPECT_THAT(
      Lieq({"evaluate", Path("model"), "--text", Path("rendered.txt"), "--score", "answers"}).err,
      HasSubstr("no answers in a text"));
  EXPECT_EQ(
      Lieq({"evaluate", Path("model"), "--text", Path("messages.jsonl"), "--chat-fields", "user"})
          .exit,
      2);
}

TEST_F(ChatTexts, RowsThatTheTemplateRefusesAreLeftOutAndCounted) {
  WriteText(
      folder / "model/tokenizer_config.json",
      R"({"chat_template": "{% for m in messages %}{{ raise_exception('no system') if m.role == 'system' }}{{ m.content }} {% endfor %}"})");
  std::string rows = R"({"messages": [{"role": "system", "content": "a"}]})"
                     "\n";
  for (int i = 0; i < 90; ++i)
    rows += R"({"messages": [{"role": "user", "content": "the one"}]})"
            "\n";
  WriteText(folder / "some.jsonl", rows);
  const Outcome outcome =
      Lieq({"evaluate", Path("model"), "--text", Path("some.jsonl"), "--context", "64"});
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("1 of 91 chats are left out"));
}

TEST_F(ChatTexts, AreCalibratedOnByWeight) {
  const auto run = [&](const std::string& out, const std::vector<std::string>& calibration) {
    std::vector<std::string> words{"quantize",  Path("model"), "-o",        Path(out),
                                   "--uniform", "4",           "--method",  "gptq",
                                   "--samples", "6",           "--context", "32"};
    for (const std::string& word : calibration) {
      words.push_back("--calibration");
      words.push_back(word);
    }
    return Lieq(words);
  };
  const Outcome weighted = run("out", {Path("messages.jsonl") + ":2", Path("rendered.txt")});
  ASSERT_EQ(weighted.exit, 0) << weighted.err;
  const Json recipe = ReadJson(folder / "out/recipe.json");
  EXPECT_THAT(recipe.dump(), HasSubstr("messages.jsonl:2\""));
  EXPECT_THAT(recipe.dump(), HasSubstr("rendered.txt:1\""));
  EXPECT_THAT(ReadJson(folder / "out/lieq.json")["calibration"]["notes"].dump(),
              HasSubstr("for its weight 2"));
  // The recipe makes it again.
  const Outcome again =
      Lieq({"quantize", Path("model"), "-o", Path("again"), "--recipe", Path("out/recipe.json")});
  ASSERT_EQ(again.exit, 0) << again.err;
  EXPECT_EQ(Contents(folder / "again"), Contents(folder / "out"));

  EXPECT_EQ(run("no", {Path("messages.jsonl") + ":0"}).exit, 2);
  EXPECT_EQ(run("no", {Path("messages.jsonl") + ":x"}).exit, 2);
  EXPECT_EQ(Lieq({"diagnose", Path("model"), "-o", Path("d.json"), "--calibration",
                  Path("rendered.txt") + ":2"})
                .exit,
            2);
}

}  // namespace
}  // namespace lieq
