// A server and its clients in one process.
#include "lieq/serve/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <atomic>
#include <thread>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/pipeline/generate.h"
#include "lieq/pipeline/requests.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::HasSubstr;

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    MakeTinyModel(folder / "model", {.layers = 2});
    WriteText(folder / "model/tokenizer_config.json",
              R"({"chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n)"
              R"({% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"})");
    request.model = folder / "model";
    request.port = 0;
    request.engine = {.sequences = 3, .context = 256, .waiting = 40};
    request.new_tokens = 12;
    request.sampling.temperature = 0;
  }
  ~ServerTest() override {
    stop.request_stop();
    if (runner.joinable()) runner.join();
  }

  void Start() {
    server = std::make_unique<Server>(request, session);
    runner = std::thread([&] { server->Run(); });
  }
  httplib::Client Client() const {
    httplib::Client client("127.0.0.1", server->port());
    client.set_read_timeout(60);
    return client;
  }
  /// The status, and the body as JSON.
  std::pair<int, Json> Post(const std::string& path, const Record& body) const {
    const auto result = Client().Post(path, body.dump(), "application/json");
    if (!result) return {-1, {}};
    return {result->status, ParseJson(result->body, path)};
  }
  std::pair<int, Json> Chat(Record more = Record::object()) const {
    Record body{{"messages", {{{"role", "user"}, {"content", "The cat"}}}}};
    body.update(more);
    return Post("/v1/chat/completions", body);
  }
  std::string Content(const Json& response) const {
    return response["choices"][0]["message"]["content"];
  }
  /// What `generate` makes of a prompt, greedily.
  std::string Generated(const std::string& prompt, Index tokens) {
    GenerateRequest wanted{.model = request.model, .prompt = prompt};
    wanted.new_tokens = tokens;
    return Generate(wanted, other).text;
  }

  TempFolder folder;
  ServeRequest request;
  std::stop_source stop;
  Progress silent;
  Session session{{.threads = 2}, Log(), silent, stop.get_token()};
  Session other{{.threads = 1}, Log(), silent};
  std::unique_ptr<Server> server;
  std::thread runner;
};

TEST_F(ServerTest, AnswersAsGenerateDoes) {
  Start();
  const auto [status, completion] =
      Post("/v1/completions", {{"prompt", "The cat"}, {"max_tokens", 9}});
  ASSERT_EQ(status, 200);
  EXPECT_EQ(completion["object"], "text_completion");
  EXPECT_EQ(completion["choices"][0]["text"], Generated("The cat", 9));
  EXPECT_EQ(completion["usage"]["completion_tokens"], 9);
  EXPECT_EQ(completion["choices"][0]["finish_reason"], "length");

  const auto [chat_status, chat] = Chat();
  ASSERT_EQ(chat_status, 200);
  EXPECT_EQ(chat["object"], "chat.completion");
  EXPECT_EQ(chat["model"], "model");
  EXPECT_EQ(Content(chat), Generated("user: The cat\nassistant: ", 12));
}

TEST_F(ServerTest, StreamsTheSameText) {
  Start();
  const std::string whole = Content(Chat().second);
  std::string stream;
  const auto result =
      Client().Post("/v1/chat/completions", httplib::Headers(),
                    Record{{"messages", {{{"role", "user"}, {"content", "The cat"}}}},
                           {"stream", true},
                           {"stream_options", {{"include_usage", true}}}}
                        .dump(),
                    "application/json");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->get_header_value("Content-Type"), "text/event-stream");
  std::string text, finish, last;
  bool role = false, usage = false;
  for (std::size_t at = 0, end = 0; (end = result->body.find("\n\n", at)) != std::string::npos;
       at = end + 2) {
    last = result->body.substr(at, end - at);
    ASSERT_TRUE(last.starts_with("data: "));
    if (last == "data: [DONE]") break;
    const Json event = ParseJson(last.substr(6), "event");
    EXPECT_EQ(event["object"], "chat.completion.chunk");
    if (event.contains("usage")) usage = event["usage"]["completion_tokens"] == 12;
    for (const Json& choice : event["choices"]) {
      role = role || choice["delta"].contains("role");
      text += choice["delta"].value("content", "");
      if (!choice["finish_reason"].is_null()) finish = choice["finish_reason"];
    }
  }
  EXPECT_EQ(last, "data: [DONE]");
  EXPECT_EQ(text, whole);
  EXPECT_TRUE(role);
  EXPECT_TRUE(usage);
  EXPECT_EQ(finish, "length");
}

TEST_F(ServerTest, EndsAtAStopTextAndDrawsTheSameForASeed) {
  Start();
  const std::string whole = Content(Chat().second);
  ASSERT_GT(whole.size(), 4u);
  const std::string stop_text = whole.substr(3, 2);
  const auto stopped = Chat({{"stop", {stop_text}}}).second;
  EXPECT_EQ(Content(stopped), whole.substr(0, whole.find(stop_text)));
  EXPECT_EQ(stopped["choices"][0]["finish_reason"], "stop");

  const Record drawn{{"temperature", 1.5}, {"seed", 4}};
  EXPECT_EQ(Content(Chat(drawn).second), Content(Chat(drawn).second));
  EXPECT_NE(Content(Chat({{"temperature", 1.5}, {"seed", 5}}).second), Content(Chat(drawn).second));
}

TEST_F(ServerTest, ReadsOfATurnOnlyWhatIsNew) {
  Start();
  const Json first = Chat().second;
  Record messages{{{"role", "user"}, {"content", "The cat"}},
                  {{"role", "assistant"}, {"content", Content(first)}},
                  {{"role", "user"}, {"content", "sat"}}};
  const Json second = Post("/v1/chat/completions", {{"messages", messages}}).second;
  EXPECT_GE(second["usage"]["prompt_tokens_details"]["cached_tokens"],
            first["usage"]["prompt_tokens"]);
  EXPECT_EQ(
      Content(second),
      Generated("user: The cat\nassistant: " + Content(first) + "\nuser: sat\nassistant: ", 12));
}

TEST_F(ServerTest, AnswersManyClientsAtOnceEachAsIfAlone) {
  Start();
  std::vector<std::string> alone;
  for (int i = 0; i < 8; ++i) {
    alone.push_back(Content(
        Chat({{"messages", {{{"role", "user"}, {"content", std::string(3 + 7 * Size(i), 'x')}}}}})
            .second));
  }
  std::vector<std::thread> clients;
  std::atomic<int> same = 0;
  for (int i = 0; i < 32; ++i) {
    clients.emplace_back([&, i] {
      const auto size = Size(i % 8);
      const auto [status, response] =
          Chat({{"messages", {{{"role", "user"}, {"content", std::string(3 + 7 * size, 'x')}}}}});
      if (status == 200 && Content(response) == alone[size]) ++same;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(same, 32);
}

TEST_F(ServerTest, OutlivesClientsThatVanishAndGoesOn) {
  request.new_tokens = 200;
  Start();
  const std::string body = Record{{"messages", {{{"role", "user"}, {"content", "The cat"}}}},
                                  {"stream", true},
                                  {"temperature", 3}}
                               .dump();
  for (int i = 0; i < 20; ++i) {
    std::size_t bytes = 0;
    httplib::Request gone;
    gone.method = "POST";
    gone.path = "/v1/chat/completions";
    gone.body = body;
    gone.set_header("Content-Type", "application/json");
    gone.content_receiver = [&](const char*, std::size_t count, std::uint64_t, std::uint64_t) {
      bytes += count;
      return bytes < 200;  // then it hangs up
    };
    httplib::Client client = Client();
    (void)client.send(gone);
    EXPECT_GE(bytes, 200u) << "an answer was under way";
  }
  // Whatever was being written for them ends, and others are served.
  EXPECT_EQ(Chat({{"max_tokens", 5}}).first, 200);
  for (int wait = 0; wait < 100; ++wait) {
    const Json health = ParseJson(Client().Get("/health")->body, "health");
    if (health["running"] == 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  FAIL() << "an answer for nobody is still being written";
}

TEST_F(ServerTest, RefusesWhatItCannotAnswer) {
  Start();
  const auto fails = [&](const Record& more, int status, const std::string& text) {
    const auto [found, response] = Chat(more);
    EXPECT_EQ(found, status) << more.dump();
    EXPECT_THAT(response["error"]["message"].get<std::string>(), HasSubstr(text)) << more.dump();
  };
  fails({{"messages", Record::array()}}, 400, "messages");
  fails({{"messages", {{{"content", "no role"}}}}}, 400, "messages[0]");
  fails({{"temperature", "hot"}}, 400, "temperature");
  fails({{"temperature", -1}}, 400, "temperature");
  fails({{"n", 2}}, 400, "n");
  fails({{"logprobs", true}}, 400, "logprobs");
  fails({{"max_tokens", 0}}, 400, "max_tokens");
  fails({{"stop", {""}}}, 400, "stop");
  fails({{"stream", "yes"}}, 400, "stream");
  fails({{"messages", {{{"role", "user"}, {"content", std::string(4000, 'x')}}}}}, 400,
        "longer than the context");
  httplib::Client client = Client();
  EXPECT_EQ(client.Post("/v1/chat/completions", "{", "application/json")->status, 400);
  EXPECT_EQ(
      client.Post("/v1/chat/completions", std::string(9 << 20, 'x'), "application/json")->status,
      413);
  EXPECT_EQ(Client().Get("/v1/nothing")->status, 404);
  EXPECT_EQ(Chat().first, 200) << "and goes on";
}

TEST_F(ServerTest, KnowsItsKeyAndItsName) {
  WriteText(folder / "empty", "\nsecret\n");
  request.api_key_file = folder / "empty";
  EXPECT_THROW(Server(request, session), Error);
  WriteText(folder / "key", "secret\nand more\n");
  request.api_key_file = folder / "key";
  Start();
  EXPECT_EQ(Chat().first, 401);
  EXPECT_EQ(Client().Get("/v1/models", {{"Authorization", "Bearer secre"}})->status, 401);
  EXPECT_EQ(Client().Get("/v1/models", {{"Authorization", "Bearer secret"}})->status, 200);
  EXPECT_EQ(Client().Get("/health")->status, 200);
  for (const char* host : {"evil.example", "127.evil.example", "localhost.evil.example"}) {
    EXPECT_EQ(Client().Get("/health", {{"Host", host}})->status, 403) << host;
  }
  EXPECT_EQ(Client().Get("/health", {{"Host", "localhost:1"}})->status, 200);
}

TEST_F(ServerTest, HasAPageAndALists) {
  Start();
  const auto page = Client().Get("/");
  EXPECT_EQ(page->status, 200);
  EXPECT_THAT(page->get_header_value("Content-Type"), HasSubstr("text/html"));
  EXPECT_THAT(page->body, HasSubstr("</html>"));
  EXPECT_THAT(page->get_header_value("Content-Security-Policy"), HasSubstr("default-src 'none'"));
  const Json models = ParseJson(Client().Get("/v1/models")->body, "models");
  EXPECT_EQ(models["data"][0]["id"], "model");
}

TEST_F(ServerTest, RefusesMoreThanMayWait) {
  request.engine = {.sequences = 1, .context = 256, .waiting = 1};
  request.new_tokens = 200;
  Start();
  std::vector<std::thread> clients;
  std::atomic<int> answered = 0, refused = 0;
  for (int i = 0; i < 12; ++i) {
    clients.emplace_back([&] {
      const int status = Chat({{"temperature", 3}}).first;
      if (status == 200) ++answered;
      if (status == 503) ++refused;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(answered + refused, 12);
  EXPECT_GE(answered, 1);
}

TEST_F(ServerTest, EndsCleanlyWithAnswersUnderWay) {
  request.new_tokens = 240;
  Start();
  std::vector<std::thread> clients;
  for (int i = 0; i < 6; ++i) clients.emplace_back([&] { (void)Chat({{"temperature", 3}}); });
  stop.request_stop();
  runner.join();
  for (std::thread& client : clients) client.join();
}

TEST_F(ServerTest, NamesAPortThatIsTaken) {
  Start();
  ServeRequest second = request;
  second.port = server->port();
  try {
    const Server taken(second, other);
    FAIL() << "two servers at one port";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("cannot be listened at"));
  }
}

}  // namespace
}  // namespace lieq
