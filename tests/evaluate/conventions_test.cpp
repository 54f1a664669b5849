#include "lieq/evaluate/conventions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/evaluate/perplexity.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<TokenId> Numbered(Index count) {
  std::vector<TokenId> ids(Size(count));
  std::iota(ids.begin(), ids.end(), TokenId{10});
  return ids;
}

ScoredText Cut(Index tokens, std::string_view convention, Index length, Index stride = 0,
               Index limit = 0) {
  return CutScored(Numbered(tokens), FindConvention(convention), length, stride, limit, TokenId{1},
                   "text");
}

TEST(Conventions, PlainWindowsLieSideBySideAndScoreAll) {
  EXPECT_THAT(Cut(11, "plain", 4).windows,
              ElementsAre(ScoredWindow{0, 4, 0}, ScoredWindow{4, 4, 0}));
  EXPECT_THAT(Cut(8, "plain", 4, 0, 1).windows, ElementsAre(ScoredWindow{0, 4, 0}));
  EXPECT_FALSE(Cut(8, "plain", 4).bos);
}

TEST(Conventions, LlamaCppScoresTheSecondHalfBehindBos) {
  // llama-perplexity scores what follows positions n_ctx / 2 .. n_ctx - 2.
  const ScoredText text = Cut(17, "llama.cpp", 8);
  EXPECT_THAT(text.windows, ElementsAre(ScoredWindow{0, 8, 4}, ScoredWindow{8, 8, 4}));
  EXPECT_EQ(text.windows[0].scored(), 3);
  EXPECT_EQ(text.bos, TokenId{1});
  EXPECT_EQ(Cut(9, "llama.cpp", 9).windows[0].first, 4);  // rounded down
}

TEST(Conventions, StridesScoreEveryTokenOnce) {
  EXPECT_THAT(Cut(10, "plain", 6, 2).windows,
              ElementsAre(ScoredWindow{0, 6, 0}, ScoredWindow{2, 6, 3}, ScoredWindow{4, 6, 3}));
  // The last window is shorter, and where a window ends with the text there is no other.
  EXPECT_THAT(Cut(11, "gptq", 6, 4).windows,
              ElementsAre(ScoredWindow{0, 6, 0}, ScoredWindow{4, 6, 1}, ScoredWindow{8, 3, 1}));
  EXPECT_THAT(Cut(6, "plain", 6, 5).windows, ElementsAre(ScoredWindow{0, 6, 0}));
  for (Index tokens = 7; tokens < 40; ++tokens) {
    for (Index stride = 1; stride < 7; ++stride) {
      std::vector<int> scored(Size(tokens));
      for (const ScoredWindow& each : Cut(tokens, "plain", 7, stride).windows) {
        ASSERT_GE(each.first, 0);
        ASSERT_LE(each.begin + each.length, tokens);
        for (Index p = each.first; p < each.length - 1; ++p) ++scored[Size(each.begin + p + 1)];
      }
      EXPECT_EQ(scored[0], 0);
      EXPECT_EQ(std::count(scored.begin(), scored.end(), 1), tokens - 1) << tokens << ' ' << stride;
    }
  }
}

TEST(Conventions, OneChatAWindowIsScoredBehindItsFirstToken) {
  const std::vector<Index> begins{0, 5, 6, 9, 16};  // of 5, 1, 3, 7 and 3 tokens
  const auto cut = [&](std::string_view convention, Index length, Index limit = 0) {
    return CutScoredChats(Numbered(19), begins, FindConvention(convention), length, limit, "chats");
  };

  // The shorter ones first; one token predicts nothing.
  EXPECT_THAT(cut("plain", 6).windows, ElementsAre(ScoredWindow{6, 3, 0}, ScoredWindow{16, 3, 0},
                                                   ScoredWindow{0, 5, 0}, ScoredWindow{9, 6, 0}));
  EXPECT_EQ(cut("plain", 6).length, 6);
  EXPECT_EQ(cut("plain", 100).length, 7);
  EXPECT_THAT(cut("gptq", 100, 3).windows,
              ElementsAre(ScoredWindow{6, 3, 0}, ScoredWindow{0, 5, 0}));
  EXPECT_THAT(ErrorOf([&] { (void)cut("llama.cpp", 8); }), HasSubstr("plain or gptq"));
  EXPECT_THAT(ErrorOf([&] { (void)cut("plain", 1); }), HasSubstr("at least 2"));
  EXPECT_THAT(ErrorOf([&] {
                (void)CutScoredChats(Numbered(2), std::vector<Index>{0, 1}, FindConvention("plain"),
                                     8, 0, "chats");
              }),
              HasSubstr("no chat has two tokens"));
}

TEST(Conventions, SayWhatDoesNotFit) {
  EXPECT_THAT(ErrorOf([] { (void)Cut(5, "plain", 8); }),
              AllOf(HasSubstr("text"), HasSubstr("at least 8"), HasSubstr("5")));
  EXPECT_THAT(ErrorOf([] { (void)Cut(5, "plain", 1); }), HasSubstr("at least 2"));
  EXPECT_THAT(ErrorOf([] { (void)Cut(5, "llama.cpp", 3); }), HasSubstr("at least 4"));
  EXPECT_THAT(ErrorOf([] { (void)Cut(50, "llama.cpp", 8, 2); }), HasSubstr("--stride"));
  EXPECT_THAT(ErrorOf([] { (void)Cut(50, "plain", 8, 8); }), HasSubstr("1 to 7"));
  EXPECT_THAT(ErrorOf([] { (void)FindConvention("gpt"); }),
              AllOf(HasSubstr("plain"), HasSubstr("gptq"), HasSubstr("llama.cpp")));
}

class OnAModel : public testing::Test {
 protected:
  OnAModel() {
    MakeTinyModel(folder / "model", {.architecture = "LlamaForCausalLM", .layers = 2});
    model = OpenModel(folder / "model");
    for (Index i = 0; i < 50; ++i) ids.push_back(static_cast<TokenId>(i * i % 251));
  }
  /// Minus the log probability of the last of these tokens.
  double Nll(std::vector<TokenId> tokens) {
    TestContext test(2);
    const auto device = MakeCpuDevice(test.pool);
    const auto count = static_cast<Index>(tokens.size());
    Forward forward(model.weights, *device, count);
    Hidden hidden = forward.Embed({tokens.data(), 1, count});
    for (Index layer = 0; layer < 2; ++layer) forward.Layer(layer, hidden);
    Matrix<double> nll(1, count - 1);
    forward.Nll(hidden, {tokens.data(), 1, count}, nll.view());
    return nll(0, count - 2);
  }
  PerplexityResult Measure(const ScoredText& text, int threads = 2) {
    TestContext test(threads);
    const auto device = MakeCpuDevice(test.pool);
    return MeasurePerplexity(model.weights, *device, text, test.context);
  }

  TempFolder folder;
  ModelFolder model;
  std::vector<TokenId> ids;
};

TEST_F(OnAModel, EveryConventionIsTheMeanOverItsTokensOneByOne) {
  struct Case {
    std::string_view convention;
    Index length, stride, limit;
  };
  for (const Case& each :
       {Case{"plain", 12, 0, 0}, Case{"llama.cpp", 12, 0, 0}, Case{"plain", 12, 5, 0},
        Case{"gptq", 12, 11, 0}, Case{"plain", 12, 5, 3}}) {
    const ScoredText text = CutScored(ids, FindConvention(each.convention), each.length,
                                      each.stride, each.limit, TokenId{7}, "text");
    const PerplexityResult result = Measure(text);

    double sum = 0;
    Index count = 0;
    for (const ScoredWindow& window : text.windows) {
      std::vector<TokenId> tokens(ids.begin() + window.begin,
                                  ids.begin() + window.begin + window.length);
      if (text.bos) tokens[0] = *text.bos;
      for (Index p = window.first; p < window.length - 1; ++p, ++count) {
        sum += Nll({tokens.begin(), tokens.begin() + p + 2});
      }
    }
    EXPECT_EQ(result.tokens_scored, count);
    EXPECT_NEAR(result.mean_nll, sum / static_cast<double>(count), 1e-5) << each.convention;
    EXPECT_EQ(result.window_nll, Measure(text, 5).window_nll);
  }
}

TEST_F(OnAModel, ErrorsAreThoseOfWindowsAndOfTokens) {
  const ScoredText text = CutScored(ids, FindConvention("plain"), 10, 0, 0, {}, "text");
  const PerplexityResult result = Measure(text);
  ASSERT_EQ(result.windows, 5);
  double squares = 0;
  for (const double nll : result.window_nll) squares += std::pow(nll - result.mean_nll, 2);
  EXPECT_NEAR(result.standard_error, std::sqrt(squares / (5 * 4)), 1e-12);
  EXPECT_GT(result.token_error, 0);
  EXPECT_NE(result.token_error, result.standard_error);
}

TEST_F(OnAModel, GptqJoinsRowsWithBlankOnesEmpty) {
  const Tokenizer tokenizer = Tokenizer::Open(folder / "model" / "tokenizer.json");
  const auto decoded = [&](std::string_view name, std::string_view text) {
    return tokenizer.Decode(EncodeFor(FindConvention(name), tokenizer, text), true);
  };
  // As "\n\n".join(dataset["text"]) of the data set wikitext.
  EXPECT_EQ(decoded("gptq", " = A = \n \n b\n"), " = A = \n\n\n\n\n b\n");
  EXPECT_EQ(decoded("gptq", "a\nb"), "a\n\n\nb");
  EXPECT_EQ(decoded("plain", " = A = \n \n b\n"), " = A = \n \n b\n");
}

}  // namespace
}  // namespace lieq
