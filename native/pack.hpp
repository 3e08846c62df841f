// Whole documents into rows of equal length, with little room left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace modelwright {

// Row r has the segments row_offsets[r] up to row_offsets[r + 1].
struct Packing {
  std::vector<std::int64_t> starts;  // of each segment, the index of its first token
  std::vector<std::uint32_t> lengths;
  std::vector<std::int64_t> row_offsets;
};

// Best-fit-decreasing: the longest document first, each into the row with the least room that takes
// it, among equal ones into the row that was changed last. A document longer than a row is first cut
// into full rows, which come first, and a rest.
//
// `document_starts` ascend and end with the number of tokens; there are fewer than 2^32 documents.
Packing pack(std::span<const std::int64_t> document_starts, std::uint32_t context);

}  // namespace modelwright
