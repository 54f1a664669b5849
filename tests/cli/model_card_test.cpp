// Cards and records of what is written: where it comes from, how it is loaded, what it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lieq/io/json.h"
#include "lieq/pipeline/model_card.h"
#include "lieq/pipeline/origin.h"
#include "tests/cli/program.h"
#include "tests/support/places.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::Pair;
using testing::StartsWith;

class ModelCards : public testing::Test {
 protected:
  Outcome Lieq(const std::vector<std::string>& words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }

  void Quantize(const std::string& model, const std::string& out,
                const std::vector<std::string>& more = {"--high-layers", "1"}) {
    std::vector<std::string> words{"quantize", Path(model), "-o", Path(out),
                                   "--method", "rtn",       "-q"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = Lieq(words);
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
  }
  /// What config.json of the folder "model" says that the Hub calls it.
  void NameOnHub(const std::string& name) {
    Record config = ReadRecord(folder / "model/config.json");
    config["_name_or_path"] = name;
    WriteText(folder / "model/config.json", config.dump());
  }
  std::string Card(const std::string& out) const { return ReadText(folder / out / "README.md"); }

  TempFolder folder;
};

TEST_F(ModelCards, NameTheBaseModelByWhatKnowsIt) {
  MakeTinyModel(folder / "plain");
  fs::create_directories(folder / "hub/models--Some-Org--A.Model-1B/snapshots");
  MakeTinyModel(folder / "hub/models--Some-Org--A.Model-1B/snapshots/0123abcd");
  MakeTinyModel(folder / "named");
  const auto rename = [&](const std::string& name) {
    Record config = ReadRecord(folder / "named/config.json");
    config["_name_or_path"] = name;
    WriteText(folder / "named/config.json", config.dump());
    return OriginOf(OpenModel(folder / "named")).name;
  };

  EXPECT_EQ(OriginOf(OpenModel(folder / "plain")).name, "plain");
  EXPECT_EQ(
      OriginOf(OpenModel(folder / "hub/models--Some-Org--A.Model-1B/snapshots/0123abcd")).name,
      "Some-Org/A.Model-1B");
  EXPECT_EQ(rename("Org/Model_2"), "Org/Model_2");
  for (const char* no_hub_name : {"", "model", "/root/Model", "../Model", "a/b/c", "a b/c", "x/"}) {
    EXPECT_EQ(rename(no_hub_name), "named") << no_hub_name;
  }
}

TEST_F(ModelCards, TakeTheLicenceFromTheCardOrTheFile) {
  MakeTinyModel(folder / "model");
  const auto origin = [&] { return OriginOf(OpenModel(folder / "model")); };

  EXPECT_EQ(origin().license, "");
  WriteText(folder / "model/LICENSE", "\n   Apache License\n  Version 2.0, January 2004\n");
  EXPECT_EQ(origin().license, "apache-2.0");
  WriteText(folder / "model/LICENSE", "Our own terms.");
  EXPECT_EQ(origin().license, "other");
  EXPECT_EQ(origin().license_link, "LICENSE");
  WriteText(folder / "model/README.md",
            "---\nlicense: other\nlicense_name: house\nlanguage: en\n---\n# Model\n");
  EXPECT_EQ(origin().license, "other");
  EXPECT_EQ(origin().license_name, "house");
  EXPECT_THAT(origin().languages, ElementsAre("en"));
}

TEST_F(ModelCards, SayWhatTheHubAndAReaderNeed) {
  MakeTinyModel(folder / "model");
  NameOnHub("Org/Model");
  WriteText(folder / "model/README.md",
            "---\nlicense: mit\nlanguage:\n- en\n- \"no\"\npipeline_tag: text-generation\n---\n");
  Quantize("model", "out");
  Quantize("model", "own", {"--uniform", "2", "--offset", "half"});
  Quantize("model", "tied", {"--uniform", "2", "--embedding-bits", "4"});

  EXPECT_THAT(Card("out"),
              StartsWith("---\nlicense: mit\nlanguage:\n- en\n- \"no\"\nbase_model: Org/Model\n"
                         "base_model_relation: quantized\nlibrary_name: transformers\n"
                         "pipeline_tag: text-generation\ntags:\n- lieq\n- compressed-tensors\n"
                         "- 3-bit\n---\n\n# Org/Model, "));
  for (const char* part :
       {"vllm serve MODEL", "AutoModelForCausalLM.from_pretrained(\"MODEL\")",
        "lieq generate MODEL", "Squared error", "| 0-1 | 2:64 | 2:64", "bytes of weights",
        "compressed-tensors 0.17", "| down | 0.", "| all | 0.", "| model.safetensors | ",
        "Bytes by what they hold: codes ", "--recipe recipe.json", "pip install vllm"}) {
    EXPECT_THAT(Card("out"), HasSubstr(part));
  }
  EXPECT_THAT(Card("own"), Not(HasSubstr("vllm")));
  EXPECT_THAT(Card("own"), Not(HasSubstr("library_name")));
  EXPECT_THAT(Card("own"), HasSubstr("LieQ alone loads"));
  EXPECT_THAT(Card("tied"), HasSubstr("transformers does not load this model"));
  EXPECT_THAT(Card("tied"), Not(HasSubstr("AutoModelForCausalLM")));
  EXPECT_THAT(Card("tied"), HasSubstr("| embedding | 4 bits |"));
  EXPECT_THAT(Card("tied"), HasSubstr("| embedding (nearest) | 0."));
  EXPECT_THAT(Card("tied"), HasSubstr("Squared error of the weights"));
}

TEST_F(ModelCards, GoAlongToEveryContainerAndOn) {
  MakeTinyModel(folder / "model");
  NameOnHub("Org/Model");
  WriteText(folder / "model/README.md", "---\nlicense: mit\n---\n");
  Quantize("model", "out");
  const Json source = ReadJson(folder / "out/lieq.json");
  std::string from = Path("out");
  for (const std::string container : {"gptq", "gguf", "mlx", "compressed-tensors"}) {
    const bool file = container == "gguf";
    const std::string out = Path(file ? "m.gguf" : container);

    const Outcome exported = Lieq({"export", from, "--to", container, "-o", out});

    ASSERT_EQ(exported.exit, 0) << exported.err;
    const std::string card = ReadText(file ? out + ".md" : out + "/README.md");
    EXPECT_THAT(card, HasSubstr("license: mit\nbase_model: Org/Model\n"));
    EXPECT_THAT(card, HasSubstr("- " + container + "\n"));
    EXPECT_THAT(card, HasSubstr(source["command"].get<std::string>()));
    if (!file) {
      const Json record = ReadJson(fs::path(out) / "lieq.json");
      EXPECT_EQ(record["container"], container);
      for (const char* key : {"settings", "origin", "command", "base_model", "relative_error"}) {
        EXPECT_EQ(record[key], source[key]) << key;
      }
      EXPECT_EQ(record["bytes"], fs::file_size(fs::path(out) / "model.safetensors"));
    }
    const Outcome diff = Lieq({"plan", "diff", Path("out"), out});
    EXPECT_THAT(diff.out, HasSubstr("the plans agree")) << container << diff.err;
    from = out;  // an export of an export
  }
  EXPECT_EQ(Lieq({"verify", from, "--against", Path("out")}).exit, 0);
}

TEST_F(ModelCards, AreMadeForModelsOfOthersAndLeaveStrangersFilesAlone) {
  MakeTinyModel(folder / "model");
  NameOnHub("Org/Model");
  Quantize("model", "out");
  for (const char* ours : {"lieq.json", "plan.json", "run.json"}) fs::remove(folder / "out" / ours);
  ASSERT_EQ(Lieq({"export", Path("out"), "--to", "gptq", "-o", Path("by-card")}).exit, 0);
  EXPECT_THAT(Card("by-card"), HasSubstr("base_model: Org/Model\n"));
  fs::remove(folder / "out/README.md");
  WriteText(folder / "m.gguf.md", "my notes\n");

  ASSERT_EQ(Lieq({"export", Path("out"), "--to", "gptq", "-o", Path("gptq")}).exit, 0);
  const Outcome file = Lieq({"export", Path("out"), "--to", "gguf", "-o", Path("m.gguf")});
  ASSERT_EQ(Lieq({"export", Path("model"), "--to", "gguf", "-o", Path("f.gguf")}).exit, 0);

  EXPECT_EQ(ReadJson(folder / "gptq/lieq.json")["kind"], "exported model");
  EXPECT_THAT(Card("gptq"), HasSubstr("base_model: Org/Model\n"));  // of config.json
  EXPECT_EQ(ReadText(folder / "m.gguf.md"), "my notes\n");
  EXPECT_THAT(file.err, HasSubstr("no model card"));
  EXPECT_THAT(ReadText(folder / "f.gguf.md"), HasSubstr("llama-server"));
  EXPECT_THAT(ReadText(folder / "f.gguf.md"), Not(HasSubstr("quantized\n")));
}

TEST_F(ModelCards, SayWhatWasMeasuredOnTheseWeights) {
  MakeTinyModel(folder / "model");
  Quantize("model", "out");
  WriteText(folder / "text", std::string(4000, 'a'));
  const Outcome measured =
      Lieq({"evaluate", Path("out"), "--reference", Path("model"), "--cache", Path("cache"),
            "--text", Path("text"), "--context", "64", "--samples", "2", "--json", "-q"});
  ASSERT_EQ(measured.exit, 0) << measured.err;
  WriteText(folder / "out/eval.json", measured.out);
  const auto exported = [&](const std::string& name) {
    const Outcome outcome = Lieq({"export", Path("out"), "--to", "gptq", "-o", Path(name)});
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return Card(name);
  };

  EXPECT_THAT(exported("a"), HasSubstr("| text, 2 windows of 64 (plain) | "));
  Record other = ParseRecord(measured.out, "stdout");
  other["model_hash"] = "of weights that were here before";
  WriteText(folder / "out/eval.json", other.dump());
  EXPECT_THAT(exported("b"), Not(HasSubstr("windows of 64")));
  WriteText(folder / "out/eval.json", "no JSON");  // a card is never worth a failure
  EXPECT_THAT(exported("c"), Not(HasSubstr("windows of 64")));
}

TEST_F(ModelCards, AResultIsNotDoneWhereAnExportOfItLies) {
  MakeTinyModel(folder / "model");
  Quantize("model", "out");
  ASSERT_EQ(Lieq({"export", Path("out"), "--to", "gptq", "-o", Path("gptq")}).exit, 0);

  const Outcome again = Lieq(
      {"quantize", Path("model"), "-o", Path("gptq"), "--method", "rtn", "--high-layers", "1"});

  EXPECT_EQ(again.exit, 3);
  EXPECT_THAT(again.err, HasSubstr("the output is there already"));
}

TEST(ModelCard, CitesThePaperAsTheRepositoryDoes) {
  const std::string file = ReadText(fs::path(LIEQ_SOURCE_DIR) / "CITATION.cff");
  for (const char* part : {"Findings of the Association for Computational Linguistics: ACL 2026",
                           "15753", "15764", "2026"}) {
    EXPECT_THAT(file, HasSubstr(part));
    EXPECT_THAT(std::string(Citation()), HasSubstr(part));
  }
  EXPECT_THAT(ReadText(fs::path(LIEQ_SOURCE_DIR) / "README.md"),
              HasSubstr("Findings of the Association for Computational Linguistics: ACL 2026"));
}

}  // namespace
}  // namespace lieq
