#include "lieq/container/special_tokens.h"

#include <gtest/gtest.h>

#include "lieq/base/files.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

class SpecialTokens : public testing::Test {
 protected:
  SpecialTokens() { MakeTinyModel(folder / "model", {.layers = 1}); }

  /// The model with these keys in its two files; an empty text leaves the second one out.
  ModelFolder Open(const std::string& config, const std::string& generation = "") {
    Record record = TinyModelConfig({.layers = 1});
    record.update(ParseRecord(config, "config"));
    WriteText(folder / "model/config.json", record.dump());
    if (!generation.empty()) WriteText(folder / "model/generation_config.json", generation);
    return OpenModel(folder / "model");
  }

  TempFolder folder;
};

using Ids = std::vector<TokenId>;

TEST_F(SpecialTokens, EndIsANumberOrAnArrayInEitherFile) {
  EXPECT_EQ(EndTokens(Open("{}")), Ids{});
  EXPECT_EQ(EndTokens(Open(R"({"eos_token_id": 266})")), Ids{266});
  EXPECT_EQ(EndTokens(Open(R"({"eos_token_id": null})")), Ids{});
  EXPECT_EQ(EndTokens(Open(R"({"eos_token_id": [9, 3]})", R"({"eos_token_id": 9})")), (Ids{3, 9}));
  EXPECT_EQ(EndTokens(Open(R"({"eos_token_id": 5})", R"({"eos_token_id": [266, 7]})")),
            (Ids{5, 7, 266}));
  EXPECT_EQ(EndTokens(Open(R"({"eos_token_id": 5})", "[]")), Ids{5});
}

TEST_F(SpecialTokens, BeginIsBosElseAnEnd) {
  EXPECT_EQ(BeginToken(Open("{}")), std::nullopt);
  EXPECT_EQ(BeginToken(Open(R"({"bos_token_id": 4, "eos_token_id": 5})")), 4);
  EXPECT_EQ(BeginToken(Open(R"({"bos_token_id": null, "eos_token_id": [6, 5]})")), 6);
  EXPECT_EQ(BeginToken(Open(R"({"eos_token_id": 5})", R"({"bos_token_id": 8})")), 8);
}

TEST_F(SpecialTokens, OtherValuesAreRefusedByFileAndKey) {
  const std::string text = ErrorOf([&] { return EndTokens(Open(R"({"eos_token_id": "2"})")); });
  EXPECT_NE(text.find("model: /eos_token_id"), std::string::npos) << text;
  EXPECT_NE(text.find("string"), std::string::npos) << text;
  for (const char* bad : {"-1", "288", "1.5", "[1, [true]]", "{}"}) {
    const std::string named = ErrorOf([&] {
      return EndTokens(
          Open(R"({"eos_token_id": 1})", "{\"eos_token_id\": " + std::string(bad) + "}"));
    });
    EXPECT_NE(named.find("generation_config.json: /eos_token_id"), std::string::npos) << bad;
  }
}

}  // namespace
}  // namespace lieq
