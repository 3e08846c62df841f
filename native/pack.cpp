#include "pack.hpp"

#include <bit>

namespace modelwright {
namespace {

using Row = std::uint32_t;
constexpr Row kNoRow = 0xFFFFFFFF;

// The rows that have room left, found by how much.
class Rooms {
 public:
  explicit Rooms(std::uint32_t most)
      : top_(most + 1, kNoRow), bits_(most / 64 + 1), groups_(most / 4096 + 1) {}

  void put(Row row, std::uint32_t room) {
    if (row >= below_.size()) below_.resize(row + 1);
    below_[row] = top_[room];
    top_[room] = row;
    bits_[room / 64] |= std::uint64_t{1} << room % 64;
    groups_[room / 4096] |= std::uint64_t{1} << room / 64 % 64;
  }

  // The least room that is at least `length`, or 0 if no row has that much.
  std::uint32_t least(std::uint32_t length) const {
    std::size_t word = length / 64;
    std::uint64_t bits = bits_[word] >> length % 64 << length % 64;
    if (bits == 0) {
      word = next_word(word + 1);
      if (word == bits_.size()) return 0;
      bits = bits_[word];
    }
    return static_cast<std::uint32_t>(word * 64 + std::countr_zero(bits));
  }

  Row take(std::uint32_t room) {
    const Row row = top_[room];
    top_[room] = below_[row];
    if (top_[room] == kNoRow) {
      bits_[room / 64] &= ~(std::uint64_t{1} << room % 64);
      if (bits_[room / 64] == 0) groups_[room / 4096] &= ~(std::uint64_t{1} << room / 64 % 64);
    }
    return row;
  }

 private:
  // The first word from `word` on that is not zero.
  std::size_t next_word(std::size_t word) const {
    if (word >= bits_.size()) return bits_.size();
    std::size_t group = word / 64;
    std::uint64_t words = groups_[group] >> word % 64 << word % 64;
    while (words == 0) {
      if (++group == groups_.size()) return bits_.size();
      words = groups_[group];
    }
    return group * 64 + std::countr_zero(words);
  }

  std::vector<Row> top_;    // of the stack of rows with so much room
  std::vector<Row> below_;  // each row, in its stack
  std::vector<std::uint64_t> bits_;    // which rooms some row has
  std::vector<std::uint64_t> groups_;  // which words of bits_ are not zero
};

}  // namespace

Packing pack(std::span<const std::int64_t> document_starts, std::uint32_t context) {
  const std::size_t n_documents = document_starts.empty() ? 0 : document_starts.size() - 1;
  const auto length_of = [&](std::size_t document) {
    return document_starts[document + 1] - document_starts[document];
  };
  const auto rest_of = [&](std::size_t document) {
    return static_cast<std::uint32_t>(length_of(document) % context);
  };

  // The rests in order of their lengths, the longest first and equal ones as in the text.
  std::size_t n_full = 0;
  std::vector<std::size_t> place(context + std::size_t{1});
  for (std::size_t document = 0; document < n_documents; ++document) {
    n_full += static_cast<std::size_t>(length_of(document)) / context;
    if (const std::uint32_t rest = rest_of(document); rest > 0) ++place[context - rest];
  }
  std::size_t n_rests = 0;
  for (std::size_t& at : place) {
    const std::size_t n_of_length = at;
    at = n_rests;
    n_rests += n_of_length;
  }
  std::vector<std::uint32_t> rests(n_rests);
  for (std::size_t document = 0; document < n_documents; ++document) {
    if (const std::uint32_t rest = rest_of(document); rest > 0) {
      rests[place[context - rest]++] = static_cast<std::uint32_t>(document);
    }
  }

  // After the pass above place[k] is where the rests of length context - k end.
  std::vector<Row> row_of(n_rests);
  std::vector<std::uint32_t> n_in_row;
  Rooms rooms(context);
  std::size_t i = 0;
  for (std::uint32_t shortfall = 1; shortfall < context; ++shortfall) {
    const std::uint32_t length = context - shortfall;
    for (; i < place[shortfall]; ++i) {
      std::uint32_t room = rooms.least(length);
      Row row;
      if (room == 0) {
        room = context;
        row = static_cast<Row>(n_in_row.size());
        n_in_row.push_back(0);
      } else {
        row = rooms.take(room);
      }
      row_of[i] = row;
      ++n_in_row[row];
      if (room > length) rooms.put(row, room - length);
    }
  }

  Packing packing;
  packing.starts.resize(n_full + n_rests);
  packing.lengths.resize(n_full + n_rests);
  packing.row_offsets.resize(n_full + n_in_row.size() + 1);
  std::size_t at = 0;
  for (std::size_t document = 0; document < n_documents; ++document) {
    const std::int64_t n_rows = length_of(document) / context;
    for (std::int64_t row = 0; row < n_rows; ++row, ++at) {
      packing.starts[at] = document_starts[document] + row * context;
      packing.lengths[at] = context;
      packing.row_offsets[at] = static_cast<std::int64_t>(at);
    }
  }
  // Each offset first serves as the place of the next segment of its row, and so ends up one row on.
  std::int64_t* const next = packing.row_offsets.data() + n_full + 1;
  packing.row_offsets[n_full] = static_cast<std::int64_t>(n_full);
  std::int64_t total = static_cast<std::int64_t>(n_full);
  for (std::size_t row = 0; row < n_in_row.size(); ++row) {
    next[row] = total;
    total += n_in_row[row];
  }
  for (std::size_t rest = 0; rest < n_rests; ++rest) {
    const std::size_t document = rests[rest];
    const std::uint32_t length = rest_of(document);
    const auto to = static_cast<std::size_t>(next[row_of[rest]]++);
    packing.starts[to] = document_starts[document + 1] - length;
    packing.lengths[to] = length;
  }
  return packing;
}

}  // namespace modelwright
