// The report as Chromium shows it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lieq/io/json.h"
#include "lieq/report/report.h"
#include "tests/browser/browser.h"
#include "tests/report/fixtures.h"
#include "tests/report/markup.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Relative luminance of a colour, as WCAG 2 defines it.
const std::string kLight = R"js(
  function light(c) {
    var v = c.match(/[\d.]+/g).slice(0, 3).map(function (x) {
      x /= 255; return x <= .03928 ? x / 12.92 : Math.pow((x + .055) / 1.055, 2.4); });
    return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; }
)js";

class ReportPage : public testing::Test {
 protected:
  void SetUp() override {
    browser = FindBrowser();
    if (browser.empty()) GTEST_SKIP() << "no chromium here; `tools/setup --test` installs it";
    page = RenderReport(AllRecords({.layers = 24}));
    WriteText(folder / "report.html", page);
  }

  std::string Url(const std::string& name) { return "file://" + (folder / name).string(); }
  std::string Dom(const std::string& name) {
    return RunBrowser(browser, folder.path(), {"--dump-dom"}, Url(name));
  }
  /// Bytes of a screenshot. A blank one of the same size takes few.
  std::size_t ScreenshotBytes(const std::string& name, int width) {
    const auto file = folder / "shot.png";
    (void)RunBrowser(browser, folder.path(),
                     {"--screenshot=" + file.string(), fmt::format("--window-size={},3000", width)},
                     Url(name));
    const std::string png = ReadText(file);
    std::filesystem::remove(file);
    return png.starts_with("\x89PNG") ? png.size() : 0;
  }
  /// What a script finds in the report, in a frame of this width. `script` fills the object `out`
  /// from `view`, `page` (the document) and `root` (its first element).
  Json Probe(int width, const std::string& theme, const std::string& script) {
    WriteText(folder / "probe.html",
              fmt::format(R"js(<!doctype html><iframe id="frame" src="report.html#{}"
style="width:{}px;height:900px;border:0"></iframe><pre id="result"></pre><script>
document.getElementById("frame").onload = function () {{
  var view = this.contentWindow, page = this.contentDocument, root = page.documentElement;
  var out = {{}};
  {}
  document.getElementById("result").textContent = "RESULT" + JSON.stringify(out) + "END";
}};</script>)js",
                          theme, width, script));
    const std::string dom = Dom("probe.html");
    const auto begin = dom.find("RESULT{"), end = dom.find("END</pre>");
    if (begin == dom.npos || end == dom.npos) throw std::runtime_error("no result: " + dom);
    return ParseJson(dom.substr(begin + 6, end - begin - 6), "probe");
  }

  const TempFolder folder;
  std::string browser, page;
};

TEST_F(ReportPage, RunsItsScriptToTheEndWithoutAnError) {
  const std::string dom = Dom("report.html");

  EXPECT_EQ(CountOf(dom, "data-script=\"done\""), 1u);
  EXPECT_EQ(CountOf(dom, "data-script=\"failed\""), 0u);
}

TEST_F(ReportPage, HasAllItsFiguresInTheDom) {
  const std::string dom = Dom("report.html");

  EXPECT_EQ(CountOf(dom, "<rect"), CountOf(page, "<rect"));
  EXPECT_EQ(CountOf(dom, "class=\"shape\""), CountOf(page, "class=\"shape\""));
  EXPECT_GT(CountOf(dom, "<rect"), 700u);
  EXPECT_GT(CountOf(dom, "class=\"shape\""), 300u);
}

TEST_F(ReportPage, IsPaintedInBothThemes) {
  WriteText(folder / "blank.html", "<!doctype html><title>blank</title>");
  for (const int width : {400, 1400}) {
    const std::size_t blank = ScreenshotBytes("blank.html", width);
    const std::size_t light = ScreenshotBytes("report.html#light", width);
    const std::size_t dark = ScreenshotBytes("report.html#dark", width);
    ASSERT_GT(blank, 0u);
    EXPECT_GT(light, 5 * blank) << width;
    EXPECT_GT(dark, 5 * blank) << width;
    EXPECT_NE(light, dark) << width;
  }
}

TEST_F(ReportPage, RefusesAScriptThatIsNotItsOwn) {
  std::string injected = page;
  injected.insert(injected.find("<main>"),
                  "<script>document.documentElement.setAttribute('data-injected', 'yes')</script>"
                  "<p onclick=\"1\" id=\"p\"></p>");
  WriteText(folder / "injected.html", injected);

  const std::string dom = Dom("injected.html");

  EXPECT_EQ(CountOf(dom, "data-injected=\""), 0u);
  EXPECT_EQ(CountOf(dom, "data-script=\"done\""), 1u);
}

TEST_F(ReportPage, NeverScrollsSidewaysWhateverTheRecordsHold) {
  const FixtureSpec spec{.layers = 60, .name = std::string(300, 'w')};
  WriteText(folder / "report.html", RenderReport(AllRecords(spec)));
  for (const int width : {320, 400, 800, 1400}) {
    const Json out = Probe(width, "light", R"js(
  page.querySelectorAll("details").forEach(function (d) { d.open = true; });
  out.wide = root.scrollWidth - root.clientWidth; out.width = root.clientWidth;)js");
    EXPECT_EQ(out["width"], width);
    EXPECT_EQ(out["wide"], 0) << width;
  }
}

TEST_F(ReportPage, KeepsItsTextLegible) {
  // Contrast of WCAG 2: 4.5 for text. In figures, text stands on the card or on a cell.
  for (const char* theme : {"light", "dark"}) {
    const Json out = Probe(1400, theme, kLight + R"js(
  function ratio(a, b) { a = light(a); b = light(b);
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); }
  function ground(e) {
    for (; e; e = e.parentElement) {
      var c = view.getComputedStyle(e).backgroundColor;
      if (c !== "rgba(0, 0, 0, 0)") return c;
    }
    return "rgb(255, 255, 255)";
  }
  out.least = 99; out.texts = 0;
  page.querySelectorAll("details").forEach(function (d) { d.open = true; });
  page.querySelectorAll("body *").forEach(function (e) {
    var own = Array.from(e.childNodes).some(function (n) {
      return n.nodeType === 3 && n.textContent.trim();
    });
    if (!own || e.id === "tip" || e.localName === "script") return;
    var style = view.getComputedStyle(e), inSvg = e.ownerSVGElement;
    var cell = inSvg && e.parentElement.querySelector(":scope > rect");
    var r = ratio(inSvg ? style.fill : style.color,
                  cell ? view.getComputedStyle(cell).fill : ground(e));
    out.texts += 1;
    if (r < out.least) { out.least = r; out.where = e.outerHTML.slice(0, 100); }
  });)js");
    EXPECT_GT(out["texts"], 1000);
    EXPECT_GE(out["least"].get<double>(), 4.5) << theme << ": " << out["where"];
  }
}

TEST_F(ReportPage, HasMarksThatStandOutFromTheCard) {
  // Contrast of WCAG 2: 3 for what a figure is made of.
  for (const char* theme : {"light", "dark"}) {
    const Json out = Probe(1400, theme, kLight + R"js(
  var card = light(view.getComputedStyle(page.querySelector(".card")).backgroundColor);
  out.least = 99;
  page.querySelectorAll(".shape, .part").forEach(function (e) {
    var mark = light(view.getComputedStyle(e).fill);
    out.least = Math.min(out.least, (Math.max(mark, card) + .05) / (Math.min(mark, card) + .05));
  });)js");
    EXPECT_GE(out["least"].get<double>(), 3.0) << theme;
  }
}

TEST_F(ReportPage, ReadsOutTheMarkUnderThePointer) {
  const Json out = Probe(800, "light", R"js(
  function move(e) { e.dispatchEvent(new view.PointerEvent("pointermove",
    {bubbles: true, clientX: 790, clientY: 40})); }
  var tip = page.getElementById("tip");
  move(page.querySelector("#diagnostics .mark .hit"));
  out.text = tip.textContent; out.shown = !tip.hidden;
  out.inside = tip.getBoundingClientRect().right <= 800;
  out.titles = page.querySelectorAll(".mark > title").length;
  move(page.querySelector("h1")); out.after = !tip.hidden;)js");

  EXPECT_EQ(out["text"], "layer 0: 3824");
  EXPECT_EQ(out["shown"], true);
  EXPECT_EQ(out["inside"], true);
  EXPECT_EQ(out["titles"], 0);  // else the browser would show a second one
  EXPECT_EQ(out["after"], false);
}

TEST_F(ReportPage, TurnsLightAndDarkByTheButton) {
  const Json out = Probe(800, "dark", R"js(
  function ground() { return view.getComputedStyle(page.body).backgroundColor; }
  out.dark = ground(); page.getElementById("theme").click();
  out.light = ground(); page.getElementById("theme").click();
  out.again = ground();)js");

  EXPECT_NE(out["dark"], out["light"]);
  EXPECT_EQ(out["dark"], out["again"]);
}

}  // namespace
}  // namespace lieq
