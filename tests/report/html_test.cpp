#include "lieq/report/html.h"

#include <gtest/gtest.h>

namespace lieq {
namespace {

constexpr const char* kGone = "\xEF\xBF\xBD";  // U+FFFD

TEST(EscapeHtml, LeavesNoCharacterThatMeansSomethingToHtml) {
  EXPECT_EQ(EscapeHtml("</script><b a=\"1\" c='2'>&amp;"),
            "&lt;/script&gt;&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;");
  EXPECT_EQ(EscapeHtml("<!--"), "&lt;!--");
}

TEST(EscapeHtml, KeepsTextOfAnyScript) {
  EXPECT_EQ(EscapeHtml("naïve 模型 😀\t\n"), "naïve 模型 😀\t\n");
}

TEST(EscapeHtml, ReplacesControlCharacters) {
  const std::string nul("a\0b", 3);
  EXPECT_EQ(EscapeHtml(nul), std::string("a") + kGone + "b");
  EXPECT_EQ(EscapeHtml("\x1B[31m\r\x7F"), std::string(kGone) + "[31m" + kGone + kGone);
  EXPECT_EQ(EscapeHtml("\xC2\x85"), kGone);  // U+0085
}

TEST(EscapeHtml, ReplacesWhatTurnsTheDirectionOfText) {
  EXPECT_EQ(EscapeHtml("a\xE2\x80\xAEgpj.exe"), std::string("a") + kGone + "gpj.exe");  // U+202E
  EXPECT_EQ(EscapeHtml("\xE2\x81\xA6"), kGone);                                         // U+2066
}

TEST(EscapeHtml, ReplacesEachByteThatIsNotUtf8) {
  EXPECT_EQ(EscapeHtml("\xFF<"), std::string(kGone) + "&lt;");
  EXPECT_EQ(EscapeHtml("\xC0\xBC"), std::string(kGone) + kGone);              // '<', overlong
  EXPECT_EQ(EscapeHtml("\xE2\x80"), std::string(kGone) + kGone);              // cut
  EXPECT_EQ(EscapeHtml("\xED\xA0\x80"), std::string(kGone) + kGone + kGone);  // surrogate
  EXPECT_EQ(EscapeHtml("\xF4\x90\x80\x80").size(), 12u);                      // beyond U+10FFFF
  EXPECT_EQ(EscapeHtml("\xC3\x28"), std::string(kGone) + "(");
}

TEST(Html, EscapesTextAndAttributes) {
  Html html;
  html.Open("p", {{"title", "\" onclick=\"x"}}).Text("<i>").Close();

  EXPECT_EQ(html.str(), "<p title=\"&quot; onclick=&quot;x\">&lt;i&gt;</p>");
}

TEST(Html, ClosesTheInnermostElementAndJoinsFragments) {
  Html inner;
  inner.Element("b", "x");
  Html html;
  html.Open("div").Open("p").Add(inner).Close().Void("br").Close();

  EXPECT_EQ(html.str(), "<div><p><b>x</b></p><br></div>");
}

}  // namespace
}  // namespace lieq
