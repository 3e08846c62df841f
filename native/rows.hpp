// Rows of a batch, copied from several mapped shards.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace modelwright {

// Several arrays of ids read as one.
template <class Id>
class TokenParts {
 public:
  explicit TokenParts(std::vector<std::span<const Id>> parts) : parts_(std::move(parts)) {
    for (const std::span<const Id> part : parts_) {
      n_tokens_ += part.size();
      ends_.push_back(n_tokens_);
    }
  }

  std::size_t n_tokens() const { return n_tokens_; }

  // Copies the tokens `start` up to `start + n`, which are there.
  void read(std::size_t start, std::size_t n, Id* out) const {
    auto part = static_cast<std::size_t>(std::ranges::upper_bound(ends_, start) - ends_.begin());
    for (; n > 0; ++part) {
      const std::span<const Id> ids = parts_[part];
      const std::size_t begin = start - (ends_[part] - ids.size());
      const std::size_t n_here = std::min(n, ids.size() - begin);
      out = std::copy_n(ids.data() + begin, n_here, out);
      start += n_here;
      n -= n_here;
    }
  }

 private:
  std::vector<std::span<const Id>> parts_;
  std::vector<std::size_t> ends_;
  std::size_t n_tokens_ = 0;
};

// One row of whole segments. Each array has `context` places.
template <class Id>
struct PackedRow {
  Id* inputs;
  Id* targets;
  std::int32_t* positions;  // from 0 in each segment
  std::int32_t* documents;  // the number of the segment; behind the last one, how many there are
};

// Returns how many places the segments, which fit, take. An input is the token before its target;
// before the very first token of all and in the places behind the last segment it is `end_of_text`.
template <class Id>
std::size_t fill_row(const TokenParts<Id>& tokens, std::span<const std::int64_t> starts,
                     std::span<const std::uint32_t> lengths, std::size_t context, Id end_of_text,
                     const PackedRow<Id>& row) {
  std::size_t at = 0;
  const auto number = [&](std::size_t n, std::size_t document) {
    for (std::size_t i = 0; i < n; ++i) {
      row.positions[at + i] = static_cast<std::int32_t>(i);
      row.documents[at + i] = static_cast<std::int32_t>(document);
    }
  };
  for (std::size_t segment = 0; segment < starts.size(); ++segment) {
    const auto start = static_cast<std::size_t>(starts[segment]);
    const std::size_t n = lengths[segment];
    tokens.read(start, n, row.targets + at);
    if (start == 0) {
      row.inputs[at] = end_of_text;
      tokens.read(0, n - 1, row.inputs + at + 1);
    } else {
      tokens.read(start - 1, n, row.inputs + at);
    }
    number(n, segment);
    at += n;
  }
  std::fill(row.inputs + at, row.inputs + context, end_of_text);
  std::fill(row.targets + at, row.targets + context, end_of_text);
  number(context - at, starts.size());
  return at;
}

}  // namespace modelwright
