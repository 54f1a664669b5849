#include "lieq/io/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/error_of.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

std::string ParseError(std::string_view text) {
  return ErrorOf([&] { return ParseJson(text, "a.json"); });
}

TEST(ParseJson, NamesTheFileAndThePlace) {
  EXPECT_THAT(ParseError("{\"a\": 1,}"),
              AllOf(HasSubstr("a.json: not valid JSON"), HasSubstr("line 1, column 9")));
}

TEST(ParseJson, RefusesAKeyGivenTwiceInOneObjectOnly) {
  EXPECT_THAT(ParseError(R"({"a": {"b": 1, "b": 2}})"), HasSubstr("the key 'b' is given twice"));
  EXPECT_THAT(ParseError(R"({"a": {"b": 1}, "b": {"a": 2}})"), IsEmpty());
}

TEST(ParseRecord, RefusesAnObjectWhoseKeysTakeQuadraticTime) {
  std::string text = "{\"k\":0";
  for (int i = 1; i < 1 << 13; ++i) text += ",\"" + std::to_string(i) + "\":0";
  EXPECT_EQ(ParseRecord(text + "}", "test").size(), std::size_t{1} << 13);
  text += ",\"one more\":0}";
  EXPECT_THAT(ErrorOf([&] { return ParseRecord(text, "test"); }),
              HasSubstr("an object has too many keys"));
  EXPECT_EQ(ParseJson(text, "test").size(), (std::size_t{1} << 13) + 1);
}

TEST(ParseJson, RefusesWhatFollowsANulByte) {
  EXPECT_THAT(ParseError(std::string("{}\0 anything", 12)), HasSubstr("NUL byte at position 2"));
}

TEST(ParseJson, RefusesTextThatIsNotUtf8) {
  EXPECT_THAT(ParseError("{\"a\": \"\xC3\x28\"}"), HasSubstr("UTF-8"));
  EXPECT_THAT(ParseError("{\"\xFF\": 1}"), HasSubstr("UTF-8"));
}

TEST(ParseJson, RefusesDeepNestingWithoutRecursing) {
  EXPECT_THAT(ParseError(std::string(1'000'000, '[')), HasSubstr("nested too deeply"));
  EXPECT_THAT(ParseError(std::string(64, '[') + std::string(64, ']')), IsEmpty());
}

TEST(ParseRecord, KeepsTheOrderOfKeys) {
  EXPECT_EQ(ParseRecord(R"({"z":1,"a":2})", "").dump(), R"({"z":1,"a":2})");
}

TEST(JsonObject, NamesTheValueThatHasTheWrongType) {
  const Json json = ParseJson(R"({"rope": {"theta": "big", "n": 1.5}, "null": null})", "");
  const JsonObject object(json, "config.json");

  EXPECT_THAT(ErrorOf([&] { return object.Object("rope").Number("theta"); }),
              AllOf(HasSubstr("config.json: /rope/theta: wrong type"), HasSubstr("\"big\"")));
  EXPECT_THAT(ErrorOf([&] { return object.Object("rope").Integer("n"); }),
              HasSubstr("a whole number"));
  EXPECT_THAT(ErrorOf([&] { return object.Integer("layers"); }),
              HasSubstr("config.json: /layers: key is missing"));
  EXPECT_EQ(object.Integer("null", 7), 7);
}

TEST(JsonObject, ReadsWholeNumbersInAnySpelling) {
  const Json json =
      ParseJson(R"({"a": 4096.0, "b": -3, "c": 18446744073709551615, "d": 1e300})", "");
  const JsonObject object(json, "x");

  EXPECT_EQ(object.Integer("a"), 4096);
  EXPECT_EQ(object.Integer("b"), -3);
  EXPECT_THAT(ErrorOf([&] { return object.Integer("c"); }), HasSubstr("a whole number"));
  EXPECT_THAT(ErrorOf([&] { return object.Integer("d"); }), HasSubstr("a whole number"));
}

}  // namespace
}  // namespace lieq
