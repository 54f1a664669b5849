// The server's page in a browser: what it sends, and what it makes of the answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <chrono>
#include <future>
#include <thread>

#include "lieq/io/json.h"
#include "lieq/serve/openai_api.h"
#include "lieq/serve/page.h"
#include "tests/browser/browser.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::HasSubstr;

/// A server of fixed answers, whose page does what a user would.
class ChatPageTest : public testing::Test {
 protected:
  void SetUp() override {
    browser = FindBrowser();
    if (browser.empty()) GTEST_SKIP() << "no chromium here; `tools/setup --test` installs it";
    server.Get("/", [this](const httplib::Request&, httplib::Response& response) {
      std::string page(ChatPage());
      // A picture that comes when the user is done holds back the end of the page's load.
      page.insert(page.find("</body>"), "<script>" + driver + "</script><img src='/held'>");
      response.set_content(page, "text/html; charset=utf-8");
    });
    server.Get("/v1/models", [](const httplib::Request&, httplib::Response& response) {
      response.set_content(R"({"data": [{"id": "tiny <b>model</b>", "chat": true}]})",
                           "application/json");
    });
    server.Post("/v1/chat/completions",
                [this](const httplib::Request& request, httplib::Response& response) {
                  asked.push_back(ParseJson(request.body, "the page's request"));
                  keys.push_back(request.get_header_value("Authorization"));
                  response.status = status;
                  response.set_content(answer, "text/event-stream");
                });
    server.Get("/done", [this](const httplib::Request&, httplib::Response& response) {
      done.set_value();
      response.set_content("", "text/plain");
    });
    server.Get("/held", [this](const httplib::Request&, httplib::Response& response) {
      (void)done.get_future().wait_for(std::chrono::seconds(20));
      response.status = 404;
    });
    port = server.bind_to_any_port("127.0.0.1");
    listener = std::thread([this] { server.listen_after_bind(); });
    while (!server.is_running()) std::this_thread::yield();
  }
  void TearDown() override {
    if (!listener.joinable()) return;
    server.stop();
    listener.join();
  }

  static std::string Event(const Record& record) { return "data: " + record.dump() + "\n\n"; }
  /// An answer in pieces, as the server streams it.
  static std::string Answer(const std::vector<std::string>& pieces, Finish finish) {
    const ApiNames names{.id = "1", .model = "tiny"};
    std::string events;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      events += Event(ApiPiece(ApiKind::kChat, names, pieces[i], i == 0));
    }
    events += Event(ApiEnd(ApiKind::kChat, names, finish));
    events += Event(ApiCounts(ApiKind::kChat, names, {.prompt_tokens = 3, .tokens = 7}));
    return events + "data: [DONE]\n\n";
  }
  std::string Dom(const std::string& script) {
    driver =
        "const wait = ms => new Promise(done => setTimeout(done, ms));"
        "async function say(text) { document.getElementById('text').value = text;"
        " document.getElementById('form').requestSubmit();"
        " while (running) await wait(20); }"
        "(async () => { while (!model) await wait(20); " +
        script + " await fetch('/done'); })();";
    return RunBrowser(browser, folder.path(), {"--dump-dom"},
                      "http://127.0.0.1:" + std::to_string(port) + "/", PageEnd::kLoad);
  }

  const TempFolder folder;
  std::string browser, driver, answer;
  int status = 200, port = 0;
  std::vector<Json> asked;
  std::vector<std::string> keys;
  std::promise<void> done;
  httplib::Server server;
  std::thread listener;
};

TEST_F(ChatPageTest, SendsTheChatAndShowsAnswersAsTextAlone) {
  answer = Answer({"It is <b>", "4</b>.\nYes"}, Finish::kEndToken);

  const std::string dom =
      Dom("document.getElementById('system').value = 'Be short.';"
          "document.getElementById('temperature').value = '0.5';"
          "document.getElementById('key').value = 'secret';"
          "await say('2 + 2?'); await say('Sure?');");

  ASSERT_EQ(asked.size(), 2u) << dom;
  EXPECT_EQ(asked[0]["temperature"], 0.5);
  EXPECT_EQ(asked[0]["stream"], true);
  EXPECT_FALSE(asked[0].contains("seed"));
  EXPECT_EQ(keys[0], "Bearer secret");
  const Json messages = asked[1]["messages"];
  ASSERT_EQ(messages.size(), 4u);
  EXPECT_EQ(messages[0]["role"], "system");
  EXPECT_EQ(messages[2]["content"], "It is <b>4</b>.\nYes");
  EXPECT_EQ(messages[3]["content"], "Sure?");
  EXPECT_THAT(dom, HasSubstr("It is &lt;b&gt;4&lt;/b&gt;.\nYes"));
  EXPECT_THAT(dom, HasSubstr("tiny &lt;b&gt;model&lt;/b&gt;"));
  EXPECT_THAT(dom, HasSubstr("7 tokens"));
}

TEST_F(ChatPageTest, SaysThatAnAnswerWasCut) {
  answer = Answer({"and so"}, Finish::kNewTokens);
  EXPECT_THAT(Dom("await say('go');"), HasSubstr("cut off"));
}

TEST_F(ChatPageTest, ShowsErrorsAndTakesTheMessageBack) {
  status = 400;
  answer = ApiError("the <i>prompt</i> is too long", "invalid_request_error").dump();
  const std::string dom = Dom("await say('first'); await say('second');");
  ASSERT_EQ(asked.size(), 2u);
  EXPECT_EQ(asked[1]["messages"].size(), 1u);
  EXPECT_THAT(dom, HasSubstr("the &lt;i&gt;prompt&lt;/i&gt; is too long"));
}

TEST_F(ChatPageTest, BeginsAnewOnRequest) {
  answer = Answer({"yes"}, Finish::kEndToken);
  (void)Dom("await say('first'); document.getElementById('fresh').click(); await say('second');");
  ASSERT_EQ(asked.size(), 2u);
  EXPECT_EQ(asked[1]["messages"].size(), 1u);
}

}  // namespace
}  // namespace lieq
