// A packed file is the model it was made from, runs as it does, and is trusted in nothing.
#include "lieq/pipeline/pack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/base/rng.h"
#include "lieq/container/exporters.h"
#include "lieq/container/generation_config.h"
#include "lieq/container/packed_file.h"
#include "lieq/container/special_tokens.h"
#include "lieq/device/cpu/packed_matrix.h"
#include "lieq/model/decoder.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/output_places.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
#include "tests/support/raw_tensors.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

class PackTest : public testing::Test {
 protected:
  /// A quantized model at `model`.
  void Make(const TinyModelOptions& options, const std::function<Grid(Index, Unit)>& grid_of,
            const std::string& container = "compressed-tensors") {
    const ModelFolder source = RandomQuantizedModel(folder / "float", options, grid_of);
    fs::create_directory(model);
    FindExporter(container).write(source, model, {});
    WriteText(model / "generation_config.json", R"({"eos_token_id": 5, "temperature": 0.25})");
    if (!fs::exists(model / "tokenizer.json")) {
      fs::copy(folder / "float" / "tokenizer.json", model / "tokenizer.json");
    }
  }
  void Make(const TinyModelOptions& options = {}) { Make(options, MixedGrid); }

  PackOutcome Pack(bool force = false) {
    return lieq::Pack({.model = model, .output = file, .force = force}, session);
  }

  /// Logits of some tokens, one prompt and then one more.
  std::vector<float> Logits(const fs::path& path) {
    ModelFolder opened = OpenRunnable(path, session);
    Decoder decoder(std::move(opened.weights), session.device(), 1, 8);
    Matrix<float> logits(1, decoder.vocab());
    const std::vector<TokenId> tokens{3, 17, 255, 8, 1};
    std::vector<float> all;
    for (const auto& [first, count] : {std::pair<Index, Index>{0, 4}, {4, 1}}) {
      decoder.Append({tokens.data() + first, 1, count}, logits.view());
      all.insert(all.end(), logits.data(), logits.data() + logits.size());
    }
    return all;
  }

  /// The file with its bytes changed.
  fs::path Changed(const std::function<void(std::string&)>& change) {
    std::string bytes = ReadText(file);
    change(bytes);
    WriteText(folder / "changed", bytes);
    return folder / "changed";
  }
  /// With one text in place of another of the same length.
  fs::path Replaced(const std::string& from, const std::string& to) {
    EXPECT_EQ(from.size(), to.size());
    return Changed([&](std::string& bytes) {
      const std::size_t at = bytes.find(from);
      ASSERT_NE(at, std::string::npos) << from;
      bytes.replace(at, to.size(), to);
    });
  }

  TempFolder folder;
  const fs::path model = folder / "model", file = folder / "model.packed";
  Progress silent;
  Session session{{.threads = 2, .kernels = "packed"}, Log(), silent};
};

TEST_F(PackTest, GivesTheSameLogitsToTheBit) {
  struct Case {
    const char* what;
    TinyModelOptions options;
    Grid grid;
    std::string container = "compressed-tensors";
  };
  const std::vector<Case> cases{
      {"2 bits", {}, {.bits = 2, .group_size = 64}},
      {"3 bits, zero-points", {}, {.bits = 3, .group_size = 32, .offset = Offset::kInteger}},
      {"an untied head and biases",
       {.architecture = "Qwen2ForCausalLM", .tied = false},
       {.bits = 4, .group_size = 32, .offset = Offset::kFloat},
       "mlx"},
      {"half offsets",
       {.architecture = "LlamaForCausalLM", .attention_bias = true},
       {.bits = 2, .group_size = 32, .offset = Offset::kHalf},
       "mlx"},
      {"8 bits, F16, whole rows", {.dtype = DType::kF16}, {.bits = 8, .group_size = 0}},
      {"6 bits", {}, {.bits = 6, .group_size = 64, .offset = Offset::kFloat}, "mlx"},
      {"shards", {.tied = false, .shards = 3}, {.bits = 4, .group_size = 32}},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.what);
    fs::remove_all(model);
    fs::remove_all(folder / "float");
    fs::remove(file);
    Make(each.options, [&](Index, Unit) { return each.grid; }, each.container);

    const PackOutcome outcome = Pack();

    EXPECT_EQ(outcome.matrices, 7 * each.options.layers);
    EXPECT_EQ(outcome.float_matrices, each.options.tied ? 1 : 2);
    EXPECT_EQ(outcome.bytes, fs::file_size(file));
    EXPECT_EQ(Logits(file), Logits(model));
    EXPECT_TRUE(VerifyPacked(file, model, session).equal());
  }
}

/// A float Qwen3-MoE of one layer with four experts, of which two are used.
void MakeExperts(const fs::path& folder) {
  fs::create_directories(folder);
  WriteText(folder / "config.json", R"({"architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
    "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2, "vocab_size": 300,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "hidden_act": "silu",
    "norm_topk_prob": true, "tie_word_embeddings": true, "rms_norm_eps": 1e-6,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "rope_theta": 10000.0})");
  std::vector<RawTensor> tensors;
  Rng rng(3);
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
    std::vector<float> values(Size(shape.front() * (shape.size() > 1 ? shape[1] : 1)));
    for (float& value : values) value = static_cast<float>(0.2 * rng.Normal()) + 0.1f;
    tensors.push_back(Raw(name, DType::kF32, std::move(shape), values));
  };
  const std::string layer = "model.layers.0.";
  add("model.embed_tokens.weight", {300, 64});
  add("model.norm.weight", {64});
  add(layer + "input_layernorm.weight", {64});
  add(layer + "post_attention_layernorm.weight", {64});
  add(layer + "self_attn.q_norm.weight", {32});
  add(layer + "self_attn.k_norm.weight", {32});
  add(layer + "self_attn.q_proj.weight", {64, 64});
  add(layer + "self_attn.k_proj.weight", {32, 64});
  add(layer + "self_attn.v_proj.weight", {32, 64});
  add(layer + "self_attn.o_proj.weight", {64, 64});
  add(layer + "mlp.gate.weight", {4, 64});
  for (int expert = 0; expert < 4; ++expert) {
    const std::string prefix = layer + "mlp.experts." + std::to_string(expert);
    add(prefix + ".gate_proj.weight", {32, 64});
    add(prefix + ".up_proj.weight", {32, 64});
    add(prefix + ".down_proj.weight", {64, 32});
  }
  WriteRaw(folder / "model.safetensors", tensors);
}

TEST_F(PackTest, ExpertsAreMatricesOfTheirOwn) {
  MakeExperts(folder / "float");
  ModelFolder source = OpenModel(folder / "float");
  source.quantized = true;
  std::uint64_t seed = 0;
  for (const Site site : kAllSites) {
    const ModelConfig& config = source.weights.config;
    source.weights.layers[0].At(site).weight = std::make_shared<const QMatrix>(RandomQMatrix(
        config.Out(0, site), config.In(0, site), {.bits = 4, .group_size = 32}, ++seed));
  }
  fs::create_directory(model);
  FindExporter("compressed-tensors").write(source, model, {});

  EXPECT_EQ(Pack().matrices, 4 + 3 * 4);

  EXPECT_EQ(Logits(file), Logits(model));
  EXPECT_TRUE(VerifyPacked(file, model, session).equal());
}

TEST_F(PackTest, KnowsTheTokenizerAndWhatTheFolderSaysOfAnswers) {
  Make();
  WriteText(model / "tokenizer_config.json", R"({"eos_token": "<|endoftext|>"})");
  WriteText(model / "chat_template.jinja", "{{ messages[0]['content'] }}{{ eos_token }}");
  (void)Pack();
  const ModelFolder folder_model = OpenModel(model), opened = OpenPackedFile(file);

  const Tokenizer expected = OpenTokenizer(folder_model, session.log());
  const Tokenizer found = OpenTokenizer(opened, session.log());
  EXPECT_EQ(found.Encode("the one and the other"), expected.Encode("the one and the other"));
  EXPECT_EQ(EndTokens(opened), EndTokens(folder_model));
  EXPECT_EQ(SamplingOf(opened)->temperature, 0.25);
  const Record messages = Record::array({{{"role", "user"}, {"content", "Hello"}}});
  EXPECT_EQ(OpenChatTemplate(opened).Render(messages, {}).text,
            OpenChatTemplate(folder_model).Render(messages, {}).text);
  EXPECT_EQ(SourceOfPacked(file).name, "model");
  EXPECT_EQ(SourceOfPacked(file).hash, HashModel(folder_model));
}

TEST_F(PackTest, HasNoTemplateOfAModelThatLiesBesideIt) {
  Make();
  (void)Pack();
  WriteText(folder / "chat_template.jinja", "another model's");

  EXPECT_FALSE(FindChatTemplate(OpenPackedFile(file)).has_value());
}

TEST_F(PackTest, MadeOfAGgufFileItIsTheSame) {
  Make({.architecture = "LlamaForCausalLM"},
       [](Index, Unit) { return Grid{.bits = 4, .group_size = 32}; });
  const fs::path gguf = folder / "model.gguf";
  FindExporter("gguf").write(OpenModel(model), gguf, {});

  (void)lieq::Pack({.model = gguf, .output = file}, session);

  EXPECT_EQ(Logits(file), Logits(gguf));
  EXPECT_TRUE(VerifyPacked(file, gguf, session).equal());
  EXPECT_EQ(OpenTokenizer(OpenPackedFile(file), session.log()).Encode("the one"),
            OpenTokenizer(OpenModel(gguf), session.log()).Encode("the one"));
}

TEST_F(PackTest, MatricesBeginOnALineOfTheCache) {
  Make();
  (void)Pack();
  const TensorFile tensors = TensorFile::Open(file);
  for (const auto& [name, tensor] : tensors.tensors()) {
    if (!name.ends_with(".packed")) continue;
    EXPECT_EQ((tensor.bytes.data() - tensors.maps().front()->bytes().data()) % 64, 0) << name;
  }
}

TEST_F(PackTest, TheSameBytesForAnyNumberOfThreads) {
  Make();
  (void)Pack();
  const std::string bytes = ReadText(file);
  Session alone({.threads = 1}, Log(), silent);

  (void)lieq::Pack({.model = model, .output = folder / "alone"}, alone);

  EXPECT_TRUE(ReadText(folder / "alone") == bytes);
}

TEST_F(PackTest, RefusesWhatItCannotLayOut) {
  MakeTinyModel(model);
  EXPECT_NE(ErrorOf([&] { return Pack(); }).find("nothing to pack"), std::string::npos);
  EXPECT_FALSE(fs::exists(file));
}

TEST_F(PackTest, ReplacesAPackedFileWhereItIsToldToAndNothingElseEver) {
  Make();
  WriteText(file, "somebody's");
  EXPECT_NE(ErrorOf([&] { return Pack(true); }).find("left alone"), std::string::npos);
  EXPECT_EQ(ReadText(file), "somebody's");

  fs::remove(file);
  (void)Pack();
  EXPECT_NE(ErrorOf([&] { return Pack(); }).find("--force"), std::string::npos);
  (void)Pack(true);
  EXPECT_NE(ErrorOf([&] {
              return lieq::Pack({.model = model, .output = model / "inside"}, session);
            }).find("lies in"),
            std::string::npos);
}

TEST_F(PackTest, OnlyPackedKernelsRunIt) {
  Make();
  (void)Pack();
  Session plain({.threads = 1, .kernels = "scalar"}, Log(), silent);

  const Problem problem = ProblemOf([&] { return OpenRunnable(file, plain); });

  EXPECT_NE(problem.expected.find("--kernels packed"), std::string::npos) << problem.expected;
  EXPECT_NE(ErrorOf([&] { return OpenModel(file); }).find("the model that it was made from"),
            std::string::npos);
}

TEST_F(PackTest, OtherVersionsAndLayoutsAreNamedWithTheWayOut) {
  Make();
  (void)Pack();
  const auto refusal = [&](const std::string& from, const std::string& to) {
    const Problem problem = ProblemOf([&] { return OpenPackedFile(Replaced(from, to)); });
    EXPECT_NE(problem.hint.find("lieq pack"), std::string::npos) << problem.hint;
    return problem.where + ": " + problem.what;
  };

  EXPECT_NE(refusal("\"version\":\"1\"", "\"version\":\"2\"").find("another version"),
            std::string::npos);
  EXPECT_NE(refusal("sixteen-rows-1", "sixteen-rows-9").find("layout"), std::string::npos);
  EXPECT_NE(refusal("lieq-packed", "lieq-racked").find("not a packed file"), std::string::npos);
  EXPECT_FALSE(IsPackedFile(folder / "changed"));
}

TEST_F(PackTest, ACutFileIsRefusedWhereverItIsCut) {
  Make({.layers = 1});
  (void)Pack();
  const std::size_t size = fs::file_size(file);
  for (std::size_t kept = 0; kept < size; kept += 1 + kept / 7) {
    const fs::path cut = Changed([&](std::string& bytes) { bytes.resize(kept); });
    EXPECT_FALSE(ErrorOf([&] { return OpenPackedFile(cut); }).empty()) << kept;
  }
}

TEST_F(PackTest, ChangedBytesAreFoundByTheirHash) {
  Make({.layers = 1});
  (void)Pack();
  ThreadPool pool(2);
  CheckHashes(file, pool);
  const TensorFile tensors = TensorFile::Open(file);
  for (const auto& [name, tensor] : tensors.tensors()) {
    const auto at =
        static_cast<std::size_t>(tensor.bytes.data() - tensors.maps().front()->bytes().data());
    const fs::path changed = Changed([&](std::string& bytes) {
      bytes[at + tensor.bytes.size() / 2] =
          static_cast<char>(bytes[at + tensor.bytes.size() / 2] ^ 1);
    });
    EXPECT_FALSE(ErrorOf([&] {
                   CheckHashes(changed, pool), void();
                   return 0;
                 }).empty())
        << name;
  }
}

TEST_F(PackTest, VerifyTellsAnotherModelApart) {
  Make();
  (void)Pack();
  fs::rename(model, folder / "first");
  fs::remove_all(folder / "float");
  Make({.seed = 2}, [](Index, Unit) { return Grid{.bits = 2, .group_size = 32}; });

  const Comparison comparison = VerifyPacked(file, model, session);

  EXPECT_GT(comparison.CountOf("packed bytes"), 0);
  EXPECT_GT(comparison.CountOf("grids"), 0);
  EXPECT_GT(comparison.CountOf("values"), 0);
}

TEST_F(PackTest, NumbersThatNoMatrixHasAreRefusedByName) {
  Make({.layers = 1},
       [](Index, Unit) { return Grid{.bits = 4, .group_size = 64, .offset = Offset::kInteger}; });
  (void)Pack();
  const TensorFile tensors = TensorFile::Open(file);
  const TensorRef& tensor = tensors.At("model.layers.0.mlp.up_proj.packed");
  const auto begin =
      static_cast<std::size_t>(tensor.bytes.data() - tensors.maps().front()->bytes().data());
  // Codes of 256 rows of 128 columns, then 2 scales a row, then as many zero-points.
  const std::size_t scales = 256 * 128 / 2, zeros = scales + 256 * 2 * 2;
  ASSERT_EQ(tensor.bytes.size(), zeros + 256 * 2);
  const auto refusal = [&](std::size_t at, std::uint8_t byte) {
    const fs::path changed =
        Changed([&](std::string& bytes) { bytes[begin + at] = static_cast<char>(byte); });
    return ErrorOf([&] { return Logits(changed); });
  };

  EXPECT_NE(refusal(scales + 33, 0x7C).find("scales"), std::string::npos);  // infinite
  EXPECT_NE(refusal(zeros + 7, 16).find("up_proj"), std::string::npos);
  EXPECT_EQ(refusal(5, 0xA5), "");  // any codes are codes
}

}  // namespace
}  // namespace lieq
