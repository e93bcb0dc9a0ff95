// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/spread.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/comm/agreement.hpp"
#include "launch/eval/results.hpp"

namespace pikv::launch {
namespace {

// How long news wait. An exchange of some bytes takes far less.
constexpr std::chrono::milliseconds kTurn{50};

/// The cell that this rank runs, if any.
class Worker {
 public:
  explicit Worker(const RunCell& run) : run_(run) {}

  [[nodiscard]] bool is_busy() const { return result_.valid(); }

  void start(std::size_t cell_idx) {
    std::promise<CellResult> promise;
    result_ = promise.get_future();
    // The thread before has ended: its result was there.
    thread_ = std::jthread(
        [this, cell_idx](std::stop_token stop, std::promise<CellResult> into) {
          try {
            into.set_value(run_(cell_idx, std::move(stop)));
          } catch (...) {
            into.set_exception(std::current_exception());
          }
        },
        std::move(promise));
  }

  /// Waits a turn, or until there is a result.
  [[nodiscard]] bool is_done_within(std::chrono::milliseconds turn) {
    if (is_busy()) return result_.wait_for(turn) == std::future_status::ready;
    std::this_thread::sleep_for(turn);
    return false;
  }

  [[nodiscard]] CellResult take() { return result_.get(); }

 private:
  const RunCell& run_;
  std::future<CellResult> result_;
  std::jthread thread_;  // last: it is asked to stop and joined before the rest goes
};

/// What a rank says in a turn: the result of its cell, or why there is none.
struct News {
  bool is_done = false;
  std::string result;                  // as JSON
  std::optional<std::string> failure;  // instead
};

News news_of(Worker& worker) {
  News news{.is_done = worker.is_done_within(kTurn), .result = {}, .failure = {}};
  if (!news.is_done) return news;
  try {
    news.result = result_to_json(worker.take());
  } catch (const std::exception& error) {
    news.failure = error.what();
  }
  return news;
}

/// Which ranks ended their cells in this turn; the same on every rank.
std::vector<char> gather_done(Communicator& comm, bool mine) {
  const char flag = mine ? 1 : 0;
  std::vector<char> all(static_cast<std::size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&flag, 1)), std::as_writable_bytes(std::span(all)));
  return all;
}

/// The texts of all ranks, on rank 0.
std::vector<std::string> send_to_first(Communicator& comm, const std::string& text) {
  std::vector<Message> send = make_messages(comm);
  std::vector<Message> received = make_messages(comm);
  send[0].resize_discard(text.size());
  std::ranges::copy(std::as_bytes(std::span(text)), send[0].data());
  comm.all_to_all_v(send, received, "results of cells");
  std::vector<std::string> texts;
  for (const Message& message : received) {
    texts.emplace_back(reinterpret_cast<const char*>(message.data()), message.size());
  }
  return texts;
}

}  // namespace

void spread_cells(Communicator& comm, std::span<const std::size_t> cell_idxs, const RunCell& run,
                  const TakeResult& take) {
  const auto me = static_cast<std::size_t>(comm.rank());
  Worker worker(run);
  // Every rank knows what each of them runs, and so who takes which cell next.
  std::vector<std::optional<std::size_t>> running(static_cast<std::size_t>(comm.size()));
  while (true) {
    for (std::optional<std::size_t>& cell : running) {
      if (cell || cell_idxs.empty()) continue;
      cell = cell_idxs.front();
      cell_idxs = cell_idxs.subspan(1);
    }
    if (std::ranges::none_of(running, [](const auto& cell) { return cell.has_value(); })) return;
    if (running[me] && !worker.is_busy()) worker.start(*running[me]);

    const News mine = news_of(worker);
    const std::vector<char> is_done = gather_done(comm, mine.is_done);
    if (std::ranges::none_of(is_done, [](char done) { return done != 0; })) continue;
    const std::vector<std::string> results = send_to_first(comm, mine.result);
    agree(comm, [&] {
      for (std::size_t rank = 0; rank < results.size(); ++rank) {
        if (!results[rank].empty()) take(*running[rank], result_from_json(results[rank]));
      }
    });
    agree(comm, [&] {
      if (mine.failure) throw Error(*mine.failure);
    });
    for (std::size_t rank = 0; rank < is_done.size(); ++rank) {
      if (is_done[rank] != 0) running[rank].reset();
    }
  }
}

}  // namespace pikv::launch
