#include "encode.hpp"

#include <algorithm>
#include <queue>
#include <utility>

#include "split.hpp"

namespace modelwright {
namespace {

// Up to here looking at every pair for each merge beats keeping a queue.
constexpr std::size_t kLongestShortPiece = 64;

// The cache is emptied when full: common pieces are back at once, and memory stays bounded.
constexpr std::size_t kMostCachedPieces = std::size_t{1} << 18;

constexpr std::uint32_t kNowhere = 0xFFFFFFFF;

}  // namespace

Encoder::Encoder(std::vector<std::string> tokens, const ByteIds& byte_ids,
                 const std::vector<MergeRule>& rules)
    : tokens_(std::move(tokens)), byte_ids_(byte_ids) {
  for (const MergeRule& rule : rules) {
    ranks_.find_or_insert(rule.left, rule.right, static_cast<Rank>(merged_ids_.size()));
    merged_ids_.push_back(rule.merged);
  }
}

template <class Id>
std::size_t Encoder::encode_some(std::string_view text, std::size_t from, std::size_t n_bytes,
                                 std::vector<Id>& ids) {
  const std::lock_guard<std::mutex> turn(mutex_);
  const std::size_t stop = n_bytes < text.size() - from ? from + n_bytes : text.size();
  while (from < stop) {
    const std::size_t end = piece_end(text, from);
    for (const std::uint32_t id : encode_cached(text.substr(from, end - from))) {
      ids.push_back(static_cast<Id>(id));
    }
    from = end;
  }
  return from;
}

template std::size_t Encoder::encode_some(std::string_view, std::size_t, std::size_t,
                                          std::vector<std::uint16_t>&);
template std::size_t Encoder::encode_some(std::string_view, std::size_t, std::size_t,
                                          std::vector<std::uint32_t>&);

std::span<const std::uint32_t> Encoder::encode_cached(std::string_view piece) {
  if (piece.size() > kLongestShortPiece) return encode_piece(piece);  // rare, and rarely the same
  if (const CachedIds* known = cache_.find(piece)) {
    return {cached_ids_.data() + known->start, known->n_ids};
  }
  if (cache_.size() >= kMostCachedPieces) {
    cache_.clear();
    cached_ids_.clear();
  }
  const std::span<const std::uint32_t> ids = encode_piece(piece);
  cache_[piece] = {cached_ids_.size(), static_cast<std::uint32_t>(ids.size())};
  cached_ids_.insert(cached_ids_.end(), ids.begin(), ids.end());
  return ids;
}

std::span<const std::uint32_t> Encoder::encode_piece(std::string_view piece) {
  check_piece_length(piece.size());
  ids_.clear();
  for (const char byte : piece) ids_.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
  if (piece.size() <= kLongestShortPiece) {
    merge_short();
  } else {
    merge_long();
  }
  return ids_;
}

void Encoder::merge_short() {
  ranks_at_.clear();
  for (std::size_t i = 0; i + 1 < ids_.size(); ++i) {
    ranks_at_.push_back(rank_of(ids_[i], ids_[i + 1]));
  }
  while (!ranks_at_.empty()) {
    const auto lowest = std::ranges::min_element(ranks_at_);  // the leftmost of equals
    if (*lowest == kNoMerge) break;
    const std::ptrdiff_t at = lowest - ranks_at_.begin();
    ids_[at] = merged_ids_[*lowest];
    ids_.erase(ids_.begin() + at + 1);
    ranks_at_.erase(lowest);
    if (at > 0) ranks_at_[at - 1] = rank_of(ids_[at - 1], ids_[at]);
    if (static_cast<std::size_t>(at) < ranks_at_.size()) {
      ranks_at_[at] = rank_of(ids_[at], ids_[at + 1]);
    }
  }
}

// The same with a linked list and a queue: n log n for a piece of n bytes.
void Encoder::merge_long() {
  struct Candidate {
    Rank rank;
    std::uint32_t position;  // of the left half
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  const auto n_positions = static_cast<std::uint32_t>(ids_.size());
  std::vector<std::uint32_t> previous(n_positions);
  std::vector<std::uint32_t> next(n_positions);
  // The rank of the pair that starts here; kNoMerge also where the token was swallowed. A queued
  // candidate that disagrees is out of date.
  std::vector<Rank>& ranks = ranks_at_;
  ranks.assign(n_positions, kNoMerge);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](std::uint32_t position) {
    const bool has_next = next[position] != kNowhere;
    ranks[position] = has_next ? rank_of(ids_[position], ids_[next[position]]) : kNoMerge;
    if (ranks[position] != kNoMerge) queue.push({ranks[position], position});
  };

  for (std::uint32_t i = 0; i < n_positions; ++i) {
    previous[i] = i == 0 ? kNowhere : i - 1;
    next[i] = i + 1 == n_positions ? kNowhere : i + 1;
    consider(i);
  }
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    if (ranks[best.position] != best.rank) continue;
    const std::uint32_t taken = next[best.position];
    const std::uint32_t after = next[taken];
    ids_[best.position] = merged_ids_[best.rank];
    ranks[taken] = kNoMerge;
    next[best.position] = after;
    if (after != kNowhere) previous[after] = best.position;
    consider(best.position);
    if (previous[best.position] != kNowhere) consider(previous[best.position]);
  }
  std::size_t n_ids = 0;
  for (std::uint32_t at = 0; at != kNowhere; at = next[at]) ids_[n_ids++] = ids_[at];
  ids_.resize(n_ids);
}

template <class Id>
std::string Encoder::decode(std::span<const Id> ids) const {
  std::size_t n_bytes = 0;
  for (const Id id : ids) n_bytes += tokens_[id].size();
  std::string text;
  text.reserve(n_bytes);
  for (const Id id : ids) text += tokens_[id];
  return text;
}

template std::string Encoder::decode(std::span<const std::uint16_t>) const;
template std::string Encoder::decode(std::span<const std::uint32_t>) const;

}  // namespace modelwright
