// What commands say of a model that they open.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Opening : public testing::Test {
 protected:
  Opening() {
    MakeTinyModel(folder / "model", {.layers = 1, .vocab = 267});
    std::string text;
    for (int i = 0; i < 200; ++i) text += "the rain in the plain " + std::to_string(i) + "\n";
    WriteText(folder / "text.txt", text);
    WriteText(folder / "pad.txt", text + "<pad>" + text);
  }
  Outcome Lieq(const std::vector<std::string>& words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }
  Outcome Evaluate(const std::string& model, const std::string& text) {
    return Lieq({"evaluate", Path(model), "--text", Path(text), "--context", "32", "--samples",
                 "40", "--json"});
  }
  void Set(const std::string& key, const Json& value) {
    Json json = ReadJson(folder / "model" / "config.json");
    json[key] = value;
    WriteText(folder / "model" / "config.json", json.dump());
  }
  /// An added token without a row of the embedding.
  void AddToken() {
    Json tokenizer = ReadJson(folder / "model" / "tokenizer.json");
    Json pad = tokenizer["added_tokens"][0];
    pad["id"] = 267;
    pad["content"] = "<pad>";
    tokenizer["added_tokens"].push_back(pad);
    WriteText(folder / "model" / "tokenizer.json", tokenizer.dump());
  }

  TempFolder folder;
};

TEST_F(Opening, RunsWithMoreTokensThanRowsAndRefusesTextsThatUseThem) {
  const Outcome before = Evaluate("model", "text.txt");
  ASSERT_EQ(before.exit, 0) << before.err;
  AddToken();

  const Outcome after = Evaluate("model", "text.txt");

  ASSERT_EQ(after.exit, 0) << after.err;
  EXPECT_EQ(ParseJson(after.out, "stdout")["perplexity"],
            ParseJson(before.out, "stdout")["perplexity"]);
  EXPECT_THAT(after.err, AllOf(HasSubstr("268 tokens"), HasSubstr("267 rows")));
  const Outcome used = Evaluate("model", "pad.txt");
  EXPECT_EQ(used.exit, 3);
  EXPECT_THAT(used.err, AllOf(HasSubstr("'<pad>'"), HasSubstr("id 267"),
                              HasSubstr("resize_token_embeddings")));
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"generate", Path("model"), "--prompt", "the", "--new-tokens", "2"},
        {"diagnose", Path("model"), "--text", Path("text.txt"), "-o", Path("d.json")},
        {"calibrate", Path("model"), "--calibration", Path("text.txt"), "--samples", "2",
         "--context", "32", "--imatrix", Path("i.gguf")},
        {"quantize", Path("model"), "--calibration", Path("text.txt"), "--samples", "2",
         "--context", "32", "-o", Path("out")},
        {"export", Path("model"), "--to", "gguf", "-o", Path("e.gguf")}}) {
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 0) << words[0] << ": " << outcome.err;
  }
  EXPECT_EQ(Evaluate("e.gguf", "text.txt").exit, 0);
}

TEST_F(Opening, NotesAreInTheLogOnceAndInTheRecord) {
  Set("architectures", Json::array());

  const Outcome outcome =
      Lieq({"quantize", Path("model"), "--method", "rtn", "--uniform", "4", "-o", Path("out")});

  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  const std::string note = "config.json names no class in architectures";
  const std::size_t at = outcome.err.find(note);
  EXPECT_NE(at, std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find(note, at + 1), std::string::npos) << outcome.err;
  const Json record = ReadJson(folder / "out" / "lieq.json");
  ASSERT_EQ(record["notes"].size(), 1u);
  EXPECT_THAT(record["notes"][0].get<std::string>(), HasSubstr(note));
  EXPECT_EQ(ReadJson(folder / "out" / "config.json")["architectures"][0], "Qwen3ForCausalLM");
  EXPECT_THAT(Lieq({"inspect", Path("out")}).err, Not(HasSubstr(note)));
}

TEST_F(Opening, OfAnUnreadTokenizerTakesTheOneBesideTheFile) {
  ASSERT_EQ(Lieq({"export", Path("model"), "--to", "gguf", "-o", Path("m.gguf"), "-q"}).exit, 0);
  const Outcome own = Evaluate("m.gguf", "text.txt");
  ASSERT_EQ(own.exit, 0) << own.err;
  std::string bytes = ReadText(folder / "m.gguf");
  const std::string pre = "tokenizer.ggml.pre";
  bytes.replace(bytes.find(pre), pre.size(), "tokenizer.ggml.prx");
  WriteText(folder / "m.gguf", bytes);

  const Outcome unread = Evaluate("m.gguf", "text.txt");
  EXPECT_EQ(unread.exit, 3);
  EXPECT_THAT(unread.err, AllOf(HasSubstr("key 'tokenizer.ggml.pre'"),
                                HasSubstr("tokenizer.json beside the file")));

  fs::copy_file(folder / "model" / "tokenizer.json", folder / "tokenizer.json");
  const Outcome beside = Evaluate("m.gguf", "text.txt");
  ASSERT_EQ(beside.exit, 0) << beside.err;
  EXPECT_THAT(beside.err, HasSubstr("beside the file"));
  EXPECT_EQ(ParseJson(beside.out, "stdout")["perplexity"],
            ParseJson(own.out, "stdout")["perplexity"]);
}

}  // namespace
}  // namespace lieq
