// Against values made by Hugging Face transformers in float32 (golden.json beside each model).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "lieq/base/files.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/io/json.h"
#include "lieq/model/decoder.h"
#include "lieq/model/forward.h"
#include "lieq/model/sampling.h"
#include "lieq/text/tokenizer.h"
#include "lieq/text/windows.h"
#include "tests/support/places.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

const fs::path kShared = fs::path(LIEQ_SOURCE_DIR) / "../shared";

struct Case {
  std::string name;
  fs::path model, golden;
};

/// The bundled models, and one more given as LIEQ_GOLDEN_MODEL=folder and LIEQ_GOLDEN_FILE=json.
std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const char* name : {"qwen3_tiny", "llama_tiny", "qwen2_tiny", "qwen3_24l"}) {
    std::string folder = name;
    std::ranges::replace(folder, '_', '-');
    const fs::path model = kShared / "models" / folder;
    cases.push_back({name, model, model / "golden.json"});
  }
  const char* model = std::getenv("LIEQ_GOLDEN_MODEL");
  const char* file = std::getenv("LIEQ_GOLDEN_FILE");
  if (model != nullptr && file != nullptr) cases.push_back({"given", model, file});
  return cases;
}

class Golden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!fs::exists(GetParam().golden)) {
      GTEST_SKIP() << GetParam().golden << " is not there: golden values are checked with it alone";
    }
    model = OpenModel(GetParam().model);
    golden = ReadJson(GetParam().golden);
  }

  /// Logits of the token after `ids`.
  std::vector<float> Logits(const std::vector<TokenId>& ids) {
    Forward forward(model.weights, *device, static_cast<Index>(ids.size()));
    Hidden hidden = forward.Embed({ids.data(), 1, static_cast<Index>(ids.size())});
    for (Index layer = 0; layer < model.weights.config.layers; ++layer) {
      forward.Layer(layer, hidden);
    }
    std::vector<float> logits(Size(model.weights.config.vocab));
    forward.LastLogits(hidden, {logits.data(), 1, model.weights.config.vocab});
    return logits;
  }

  ModelFolder model;
  Json golden;
  ThreadPool pool{2};
  std::unique_ptr<Device> device = MakeCpuDevice(pool);
};

TEST_P(Golden, LogitsAndGreedyTokensAgree) {
  constexpr double kLogitTolerance = 1e-3, kTie = 1e-4;  // of the issue that asked for this check
  for (const Json& row : golden["cases"]) {
    SCOPED_TRACE(row["text"].get<std::string>());
    auto ids = row["ids"].get<std::vector<TokenId>>();
    std::vector<float> logits = Logits(ids);
    for (std::size_t i = 0; i < row["top8_ids"].size(); ++i) {
      EXPECT_NEAR(logits[row["top8_ids"][i].get<std::size_t>()],
                  row["top8_logits"][i].get<double>(), kLogitTolerance);
    }
    for (const TokenId expected : row["greedy"].get<std::vector<TokenId>>()) {
      const auto best = std::ranges::max_element(logits);
      const auto token = static_cast<TokenId>(best - logits.begin());
      if (token != expected) {
        ASSERT_LT(*best - logits[Size(expected)], kTie) << "token " << token << " won";
      }
      ids.push_back(expected);
      logits = Logits(ids);
    }
  }
}

TEST_P(Golden, DecoderGivesTheGreedyTokens) {
  for (const Json& row : golden["cases"]) {
    SCOPED_TRACE(row["text"].get<std::string>());
    const auto ids = row["ids"].get<std::vector<TokenId>>();
    const auto greedy = row["greedy"].get<std::vector<TokenId>>();
    const auto prompt = static_cast<Index>(ids.size());
    Decoder decoder(model.weights, *device, 1, prompt + static_cast<Index>(greedy.size()));
    Matrix<float> logits(1, model.weights.config.vocab);
    decoder.Append({ids.data(), 1, prompt}, logits.view());
    Sampler sampler({}, 0);
    for (const TokenId expected : greedy) {
      const TokenId token = sampler.Next(logits.view().Row(0));
      ASSERT_EQ(token, expected) << "after " << decoder.length() - prompt << " tokens";
      decoder.Append({&token, 1, 1}, logits.view());
    }
  }
}

TEST_P(Golden, PerplexityOfEachWindowAgrees) {
  const fs::path text = kShared / "data/wikitext2.test.raw";
  if (!fs::exists(text)) GTEST_SKIP() << text << " is not there";
  const Json& expected = golden["perplexity"];
  const Tokenizer tokenizer = Tokenizer::Open(GetParam().model / "tokenizer.json");
  const auto ids = tokenizer.Encode(ReadText(text));
  ASSERT_EQ(static_cast<Index>(ids.size()), expected["tokens_in_text"].get<Index>());
  const auto context = expected["context"].get<Index>();
  const Windows windows = CutWindows(ids, context, 8, "text");
  Forward forward(model.weights, *device, context);
  Hidden hidden = forward.Embed(windows.view());
  for (Index layer = 0; layer < model.weights.config.layers; ++layer) forward.Layer(layer, hidden);
  Matrix<double> nll(windows.count, context - 1);

  forward.Nll(hidden, windows.view(), nll.view());

  double total = 0;
  for (Index w = 0; w < windows.count; ++w) {
    double sum = 0;
    for (Index p = 0; p + 1 < context; ++p) sum += nll(w, p);
    // The file holds six decimals; the rest is the reference's own float rounding.
    EXPECT_NEAR(sum / static_cast<double>(context - 1),
                expected["nll_per_window"][Size(w)].get<double>(), 5e-6);
    total += sum;
  }
  EXPECT_NEAR(std::exp(total / static_cast<double>(nll.size())),
              expected["first_8_windows"].get<double>(), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, testing::ValuesIn(Cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace lieq
