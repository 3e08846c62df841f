// Cuts text into pieces: words, numbers, punctuation, white space. BPE never merges across two.
//
// The rule is GPT-2's pattern,
//
//   '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// written by hand over UTF-8. Every byte of the text belongs to exactly one piece.
//
// A byte that is not part of a well-formed UTF-8 sequence (Unicode 15.0, table 3-7: so no overlong
// forms, no surrogates, nothing above U+10FFFF) counts as one character that is neither letter,
// number nor white space. This is what the pattern does on what Python's
// bytes.decode("utf-8", "surrogateescape") returns.
#pragma once

#include <cstddef>
#include <string_view>

namespace modelwright {

// Where the piece that starts at `start` ends. `start` is a piece boundary, not the end of `text`.
std::size_t piece_end(std::string_view text, std::size_t start);

}  // namespace modelwright
