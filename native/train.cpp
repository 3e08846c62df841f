#include "train.hpp"

#include <stdexcept>
#include <utility>

#include "split.hpp"

namespace modelwright {
namespace {

constexpr std::uint32_t kNowhere = 0xFFFFFFFF;
constexpr std::uint32_t kSwallowed = 0xFFFFFFFF;  // the token here is now part of the one before
constexpr std::size_t kByteValues = 256;

}  // namespace

std::size_t PieceCounter::count_some(std::string_view text, std::size_t from, std::size_t n_bytes) {
  const std::size_t stop = n_bytes < text.size() - from ? from + n_bytes : text.size();
  while (from < stop) {
    const std::size_t end = piece_end(text, from);
    ++counts_[text.substr(from, end - from)];
    from = end;
  }
  return from;
}

bool MergeLearner::IsWorse::operator()(const Candidate& one, const Candidate& other) const {
  if (one.count != other.count) return one.count < other.count;
  const Pair& a = learner->pairs_[one.pair];
  const Pair& b = learner->pairs_[other.pair];
  const std::vector<std::string>& tokens = learner->tokens_;
  if (a.left != b.left) return tokens[a.left] < tokens[b.left];
  return tokens[a.right] < tokens[b.right];
}

MergeLearner::MergeLearner(const PieceCounter& counter) : queue_(IsWorse{this}) {
  for (std::size_t byte = 0; byte < kByteValues; ++byte) {
    tokens_.emplace_back(1, static_cast<char>(byte));
  }
  lay_out(counter);
  queue_new_pairs();
}

void MergeLearner::lay_out(const PieceCounter& counter) {
  std::size_t n_positions = 0;
  for (std::size_t piece = 0; piece < counter.n_distinct(); ++piece) {
    n_positions += counter.piece(piece).size();
  }
  if (n_positions >= kNowhere) {
    throw std::length_error("the distinct pieces of the text come to over 4 GiB");
  }
  token_at_.reserve(n_positions);
  previous_.reserve(n_positions);
  next_.reserve(n_positions);
  piece_at_.reserve(n_positions);
  piece_counts_.reserve(counter.n_distinct());

  for (std::size_t piece = 0; piece < counter.n_distinct(); ++piece) {
    const std::string_view bytes = counter.piece(piece);
    const std::int64_t count = counter.count(piece);
    piece_counts_.push_back(count);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const auto here = static_cast<Position>(token_at_.size());
      token_at_.push_back(static_cast<unsigned char>(bytes[i]));
      previous_.push_back(i == 0 ? kNowhere : here - 1);
      next_.push_back(i + 1 == bytes.size() ? kNowhere : here + 1);
      piece_at_.push_back(static_cast<std::uint32_t>(piece));
      if (i > 0) add_occurrence(token_at_[here - 1], token_at_[here], count, here - 1);
    }
  }
}

std::size_t MergeLearner::learn(std::size_t n_merges) {
  std::size_t n_learned = 0;
  while (n_learned < n_merges && learn_one()) ++n_learned;
  return n_learned;
}

bool MergeLearner::learn_one() {
  while (!queue_.empty()) {
    const Candidate best = queue_.top();
    queue_.pop();
    const std::int64_t count = pairs_[best.pair].count;
    if (count == best.count) {
      merge_everywhere(best.pair);
      return true;
    }
    if (count > 0) queue_.push({count, best.pair});
  }
  return false;
}

void MergeLearner::merge_everywhere(std::uint32_t pair) {
  const Pair merged = std::move(pairs_[pair]);
  merges_.push_back({merged.left, merged.right});
  tokens_.push_back(tokens_[merged.left] + tokens_[merged.right]);
  // From left to right, which decides which two of "aaa" are merged.
  for (const Position position : merged.positions) merge_at(position, merged);
  pairs_[pair].count = 0;
  queue_new_pairs();
}

void MergeLearner::merge_at(Position position, const Pair& merged) {
  const Position taken = next_[position];
  const bool is_there = token_at_[position] == merged.left && taken != kNowhere &&
                        token_at_[taken] == merged.right;
  if (!is_there) return;
  const auto token = static_cast<std::uint32_t>(tokens_.size() - 1);
  const std::int64_t count = piece_counts_[piece_at_[position]];
  const Position before = previous_[position];
  const Position after = next_[taken];
  token_at_[position] = token;
  token_at_[taken] = kSwallowed;
  next_[position] = after;
  if (before != kNowhere) {
    remove_occurrence(token_at_[before], merged.left, count);
    add_occurrence(token_at_[before], token, count, before);
  }
  if (after != kNowhere) {
    previous_[after] = position;
    remove_occurrence(merged.right, token_at_[after], count);
    add_occurrence(token, token_at_[after], count, position);
  }
}

void MergeLearner::remove_occurrence(std::uint32_t left, std::uint32_t right, std::int64_t count) {
  pairs_[pair_indices_.find(left, right)].count -= count;
}

void MergeLearner::add_occurrence(std::uint32_t left, std::uint32_t right, std::int64_t count,
                                  Position position) {
  const auto n_pairs = static_cast<std::uint32_t>(pairs_.size());
  const std::uint32_t index = pair_indices_.find_or_insert(left, right, n_pairs);
  if (index == n_pairs) pairs_.push_back({left, right, 0, {}});
  pairs_[index].count += count;
  pairs_[index].positions.push_back(position);
}

void MergeLearner::queue_new_pairs() {
  for (; n_queued_pairs_ < pairs_.size(); ++n_queued_pairs_) {
    const std::int64_t count = pairs_[n_queued_pairs_].count;
    if (count > 0) queue_.push({count, static_cast<std::uint32_t>(n_queued_pairs_)});
  }
}

}  // namespace modelwright
