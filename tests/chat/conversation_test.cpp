// Conversations as files hold them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "lieq/chat/conversation.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::HasSubstr;

std::string Messages(std::string_view json, const ChatFields& fields = {}) {
  return ConversationOf(ParseRecord(json, "row"), "rows.jsonl:3", fields).messages.dump();
}

TEST(Conversation, IsAListOfTurnsOrAnObjectWithOne) {
  const std::string turns = R"([{"role":"user","content":"a"},{"role":"assistant","content":"b"}])";

  EXPECT_EQ(Messages(turns), turns);
  EXPECT_EQ(Messages(R"({"id": 1, "messages": )" + turns + "}"), turns);
  EXPECT_EQ(Messages(R"({"conversations": )" + turns + "}"), turns);
}

TEST(Conversation, OtherNamesOfTurnsBecomeThoseOfTransformers) {
  EXPECT_EQ(
      Messages(
          R"({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]})"),
      R"([{"role":"system","content":"s"},{"role":"user","content":"h"},{"role":"assistant","content":"g"}])");
}

TEST(Conversation, FieldsOfARowAreTurnsByAMap) {
  const ChatFields alpaca{{"user", "instruction"}, {"user", "input"}, {"assistant", "output"}};

  EXPECT_EQ(Messages(R"({"instruction": "i", "input": "x", "output": "o"})", alpaca),
            R"([{"role":"user","content":"i\n\nx"},{"role":"assistant","content":"o"}])");
  EXPECT_EQ(Messages(R"({"instruction": "i", "input": "", "output": "o"})", alpaca),
            R"([{"role":"user","content":"i"},{"role":"assistant","content":"o"}])");
  EXPECT_EQ(Messages(R"({"messages": [{"role": "user", "content": "m"}]})", alpaca),
            R"([{"role":"user","content":"m"}])")
      << "files of both kinds may stand beside one another";
}

TEST(Conversation, WhatIsNoneIsRefusedByItsPlace) {
  for (const std::string_view json :
       {"3", "[]", "{}", R"({"messages": []})", R"({"messages": "x"})", R"([{"content": "x"}])",
        R"([{"role": 3}])", R"([{"role": "user"}, 3])", R"([{"from": null, "value": "x"}])"}) {
    EXPECT_THAT(ErrorOf([&] { return Messages(json); }), HasSubstr("rows.jsonl:3")) << json;
  }
  EXPECT_THAT(ErrorOf([] { return Messages(R"({"a": 1})", {{"user", "a"}}); }),
              HasSubstr("rows.jsonl:3: /a"));
  EXPECT_THAT(ErrorOf([] { return Messages(R"({"a": ""})", {{"user", "a"}}); }),
              HasSubstr("none of the fields"));
}

TEST(Conversation, OfAFileFurtherKeysAreVariables) {
  const TempFolder folder;
  WriteText(folder / "c.json",
            R"({"messages": [{"role": "user", "content": "a"}], "tools": [{"x": 1}], "mood": 2})");

  const Conversation chat = ReadConversation(folder / "c.json");

  EXPECT_EQ(chat.tools.dump(), R"([{"x":1}])");
  EXPECT_EQ(chat.variables.dump(), R"({"mood":2})");
  EXPECT_TRUE(
      ConversationOf(ParseRecord(R"({"messages": [{"role": "user"}], "tools": []})", "r"), "r")
          .tools.is_null());
}

}  // namespace
}  // namespace lieq
