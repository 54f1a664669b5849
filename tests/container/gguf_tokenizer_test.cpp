#include "lieq/container/gguf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/container/exporters.h"
#include "tests/support/error_of.h"
#include "tests/support/keyed_gguf.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

/// The keys of a tokenizer of two tokens, which may be changed or left out.
RawGguf Keys(const std::string& pre = "llama-bpe", const std::string& left_out = "") {
  const std::string tokens = RawGguf::String("a") + RawGguf::String("b");
  const std::string types = RawGguf::Number(1) + RawGguf::Number(1);
  RawGguf file;
  file.keys = {{"tokenizer.ggml.model", 8, RawGguf::String("gpt2")},
               {"tokenizer.ggml.pre", 8, RawGguf::String(pre)},
               {"tokenizer.ggml.tokens", 9, RawGguf::Array(8, 2, tokens)},
               {"tokenizer.ggml.token_type", 9, RawGguf::Array(5, 2, types)},
               {"tokenizer.ggml.merges", 9, RawGguf::Array(8, 0, "")}};
  std::erase_if(file.keys, [&](const RawGguf::Key& key) { return key.name == left_out; });
  return file;
}

GgufTokenizer Read(const RawGguf& file) {
  const std::string bytes = file.Render();
  return TokenizerFromKeys(ParseGguf(std::as_bytes(std::span(bytes)), "m.gguf").keys);
}

TEST(GgufTokenizer, TakesTheNamesOfLlamaCppThatMeanAKnownPattern) {
  struct Names {
    std::string own;
    std::vector<std::string> others;
  };
  for (const Names& names :
       {Names{"llama-bpe", {"llama3", "llama-v3", "falcon3", "pixtral", "lfm2"}},
        Names{"smaug-bpe", {"dbrx", "glm4", "chatglm-bpe"}},
        Names{"smollm", {"starcoder", "refact", "command-r", "exaone"}},
        Names{"gpt-2", {"phi-2", "mpt", "olmo", "exaone4", "jina-v2-de", "modern-bert"}},
        Names{"gpt-4o", {"llama4", "kanana2", "talkie", "minimax-m2"}}, Names{"qwen35", {}},
        Names{"tekken", {}}, Names{"seed-coder", {}}}) {
    const GgufTokenizer own = Read(Keys(names.own));
    EXPECT_FALSE(own.problem) << names.own;
    for (const std::string& other : names.others) {
      const GgufTokenizer read = Read(Keys(other));
      EXPECT_FALSE(read.problem) << other;
      EXPECT_EQ(Json::parse(read.json)["pre_tokenizer"], Json::parse(own.json)["pre_tokenizer"]);
      EXPECT_EQ(Json::parse(read.json)["model"], Json::parse(own.json)["model"]) << other;
    }
  }
  // Qwen's own normalizes besides, which llama.cpp does not.
  const Json qwen = Json::parse(Read(Keys("qwen2")).json);
  for (const char* name : {"deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open"}) {
    const Json read = Json::parse(Read(Keys(name)).json);
    EXPECT_EQ(read["pre_tokenizer"], qwen["pre_tokenizer"]) << name;
    EXPECT_EQ(read["model"], qwen["model"]) << name;
  }
}

TEST(GgufTokenizer, SaysWhichKeyIsNotReadAndWhatIs) {
  for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
                          "tokenizer.ggml.token_type", "tokenizer.ggml.merges"}) {
    const GgufTokenizer read = Read(Keys("llama-bpe", key));
    ASSERT_TRUE(read.problem) << key;
    EXPECT_EQ(read.json, "");
    EXPECT_THAT(read.problem->where, HasSubstr(key));
    EXPECT_THAT(read.problem->what, HasSubstr("the key is missing"));
    EXPECT_THAT(read.problem->hint, HasSubstr("tokenizer.json beside the file"));
  }
  for (const char* pre : {"default", "llama-v99", "falcon", ""}) {
    const GgufTokenizer read = Read(Keys(pre));
    ASSERT_TRUE(read.problem) << pre;
    EXPECT_EQ(read.problem->found, pre);
    EXPECT_THAT(read.problem->expected, AllOf(HasSubstr("llama-bpe"), HasSubstr("qwen2")));
    EXPECT_THAT(read.problem->hint, HasSubstr("--pre-tokenizer"));
  }
  for (const char* model : {"t5", "bert", "none", "new"}) {
    RawGguf file = Keys();
    file.keys[0].value = RawGguf::String(model);
    const GgufTokenizer read = Read(file);
    ASSERT_TRUE(read.problem) << model;
    EXPECT_THAT(read.problem->found, HasSubstr(model));
    EXPECT_THAT(read.problem->expected, HasSubstr("gpt2"));
  }
  RawGguf file = Keys();
  file.keys[2].value = RawGguf::Array(8, 2, RawGguf::String("a") + RawGguf::String("a"));
  EXPECT_THAT(Read(file).problem->what, HasSubstr("two tokens of one name"));
  file = Keys();
  file.keys[4].value = RawGguf::Array(8, 1, RawGguf::String("ab"));
  EXPECT_THAT(Read(file).problem->what, HasSubstr("a merge of one part"));
  file = Keys();
  file.keys[3].value = RawGguf::Array(5, 1, RawGguf::Number(1));
  EXPECT_THAT(Read(file).problem->what, HasSubstr("not one type for each token"));
}

/// A tiny llama whose tokenizer.json has an added token more than the embedding has rows.
class MoreTokensThanRows : public testing::Test {
 protected:
  MoreTokensThanRows() {
    MakeTinyModel(folder_ / "model",
                  {.architecture = "LlamaForCausalLM", .layers = 1, .vocab = 267});
    Json tokenizer = ReadJson(folder_ / "model" / "tokenizer.json");
    Json pad = tokenizer["added_tokens"][0];
    pad["id"] = 267;
    pad["content"] = "<pad>";
    tokenizer["added_tokens"].push_back(pad);
    WriteText(folder_ / "model" / "tokenizer.json", tokenizer.dump());
  }
  TempFolder folder_;
};

TEST_F(MoreTokensThanRows, AreLeftOutOfTheFileWithAWord) {
  std::vector<std::string> notes;
  FindExporter("gguf").write(OpenModel(folder_ / "model"), folder_ / "m.gguf",
                             {.note = [&](const std::string& text) { notes.push_back(text); }});

  EXPECT_THAT(notes, Contains(AllOf(HasSubstr("<pad>"), HasSubstr("not in the file"))));
  const ModelFolder model = OpenModel(folder_ / "m.gguf");
  EXPECT_FALSE(model.tokenizer_problem);
  EXPECT_EQ(Json::parse(model.tokenizer)["model"]["vocab"].size(), 267u);
}

TEST_F(MoreTokensThanRows, AreRefusedWhereTheyAreTheTokenizersOwn) {
  Json tokenizer = ReadJson(folder_ / "model" / "tokenizer.json");
  tokenizer["model"]["vocab"]["zz"] = 268;
  WriteText(folder_ / "model" / "tokenizer.json", tokenizer.dump());
  EXPECT_THAT(ErrorOf([&] {
                FindExporter("gguf").write(OpenModel(folder_ / "model"), folder_ / "m.gguf", {});
              }),
              HasSubstr("more tokens than the model"));
}

TEST(OpenGguf, NotesATokenizerThatIsNotRead) {
  const TempFolder folder;
  MakeTinyModel(folder / "model", {.architecture = "LlamaForCausalLM", .layers = 1});
  FindExporter("gguf").write(OpenModel(folder / "model"), folder / "m.gguf", {});
  std::string bytes = ReadText(folder / "m.gguf");
  const std::string key = "tokenizer.ggml.pre";
  bytes.replace(bytes.find(key), key.size(), "tokenizer.ggml.prx");
  WriteText(folder / "m.gguf", bytes);

  const ModelFolder model = OpenModel(folder / "m.gguf");

  EXPECT_EQ(model.tokenizer, "");
  ASSERT_TRUE(model.tokenizer_problem);
  EXPECT_THAT(model.tokenizer_problem->where, HasSubstr("m.gguf: key 'tokenizer.ggml.pre'"));
  EXPECT_THAT(model.notes, Contains(HasSubstr("tokenizer is not read")));
}

}  // namespace
}  // namespace lieq
