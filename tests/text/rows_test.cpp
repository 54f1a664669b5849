#include "lieq/text/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ParseCsv, ReadsFieldsInAndOutOfQuotes) {
  EXPECT_THAT(ParseCsv("a,b\r\n\"x, y\",\"he said \"\"no\"\"\"\n,\"two\nlines\"\n", "f"),
              ElementsAre(ElementsAre("a", "b"), ElementsAre("x, y", "he said \"no\""),
                          ElementsAre("", "two\nlines")));
  EXPECT_THAT(ParseCsv("a\"b,c", "f"), ElementsAre(ElementsAre("a\"b", "c")));
  EXPECT_THAT(ParseCsv("\xEF\xBB\xBF\"a\"", "f"), ElementsAre(ElementsAre("a")));
  EXPECT_THAT(ParseCsv("a,\n", "f"), ElementsAre(ElementsAre("a", "")));
  EXPECT_TRUE(ParseCsv("", "f").empty());
}

TEST(ParseCsv, NamesTheLineThatIsWrong) {
  EXPECT_THAT(ErrorOf([] { (void)ParseCsv("a\n\"b\nc", "f.csv"); }), HasSubstr("f.csv:2"));
  EXPECT_THAT(ErrorOf([] { (void)ParseCsv("\"a\n\"\n\"b\" c\n", "f.csv"); }), HasSubstr("f.csv:3"));
}

class RowFiles : public testing::Test {
 protected:
  std::filesystem::path Write(const std::string& name, const std::string& content) {
    std::ofstream(folder / name) << content;
    return folder / name;
  }
  TempFolder folder;
};

TEST_F(RowFiles, AreObjectsWithTheirPlaces) {
  const auto json = ReadRows(Write("a.jsonl", "{\"x\": 1}\n\n{\"x\": 2}\n"));
  ASSERT_EQ(json.size(), 2);
  EXPECT_EQ(json[1].fields["x"], 2);
  EXPECT_THAT(json[1].place, HasSubstr("a.jsonl:3"));

  const auto headed = ReadRows(Write("a.csv", "q,a\nwhy,B\nhow,C\n"));
  ASSERT_EQ(headed.size(), 2);
  EXPECT_EQ(headed[1].fields["q"], "how");
  const auto named = ReadRows(Write("b.csv", "why,B\nhow,C\n"), {"q", "a"}, 1);
  ASSERT_EQ(named.size(), 1);
  EXPECT_EQ(named[0].fields["a"], "B");
}

TEST_F(RowFiles, RefusesRecordsOfUnlikeLength) {
  const auto path = Write("a.csv", "q,a\nwhy\n");
  EXPECT_THAT(ErrorOf([&] { (void)ReadRows(path); }), HasSubstr("record 2"));
}

}  // namespace
}  // namespace lieq
